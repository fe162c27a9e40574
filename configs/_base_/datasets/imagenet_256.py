# ImageNet-1K at 256x256. Evaluation resizes the short side to 292 (256 / 0.875) and crops the
# centre.
dataset_type = 'ImageNet'
data_root = 'data/imagenet'
data_preparation = (
    'docs/datasets/imagenet.md describes the folders. For another folder: --cfg-options '
    'train_dataloader.dataset.data_root=FOLDER val_dataloader.dataset.data_root=FOLDER '
    'test_dataloader.dataset.data_root=FOLDER'
)
data_preprocessor = dict(
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
bicubic = dict(backend='pillow', interpolation='bicubic')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='edgenext_mm.MultiScaleRandomResizedCrop', scale=256, **bicubic),
    dict(type='edgenext_mm.TableColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    # Late: a flipped image is a view, which other steps would copy.
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
# timm's rand-m9-mstd0.5-inc1; some recipes use it instead of the colour jitter.
rand_augment = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_level=9,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=292, edge='short', **bicubic),
    dict(type='CenterCrop', crop_size=256),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, split='val', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

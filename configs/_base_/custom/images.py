# Class folders: data_root/train/CLASS/* and data_root/val/CLASS/*.
task = 'classification'
image_size = 224

data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='edgenext_mm.MultiScaleRandomResizedCrop',
        scale='$image_size',
        crop_ratio_range=(0.35, 1.0),
        interpolation='bicubic',
    ),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=5,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
    ),
    # Late: a flipped image is a view, which other steps would copy.
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale='$image_size', edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size='$image_size'),
    dict(type='PackInputs'),
]
dataset = dict(
    type='edgenext_mm.ImageFolder', data_root='$data_root', metainfo=dict(classes='$classes')
)
loader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    persistent_workers=True,
    collate_fn=dict(type='default_collate'),
)
train_dataloader = dict(
    **loader,
    dataset=dict(**dataset, data_prefix='train', pipeline=train_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    **loader,
    dataset=dict(**dataset, data_prefix='$val_split', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    **loader,
    dataset=dict(**dataset, data_prefix='$test_split', pipeline=test_pipeline),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator

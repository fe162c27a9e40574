# Handwritten digits, trained from scratch in minutes on a laptop. An example for your own data.
# The data: python tools/dataset_converters/digits.py
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/default_runtime.py',
]

# Model: layer scales of 1 suit a short training from scratch.
model = dict(
    backbone=dict(layer_scale_init_value=1.0),
    head=dict(num_classes=10, topk=(1,)),
)

# Data: one folder per class under data/digits/train and data/digits/val.
data_root = 'data/digits'
data_preparation = 'Make it with `python tools/dataset_converters/digits.py`.'
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64, interpolation='bicubic'),
    dict(
        type='RandAugment',
        policies=[
            dict(type='Rotate', magnitude_range=(0, 15)),
            dict(type='Shear', magnitude_range=(0, 0.2), direction='horizontal'),
            dict(type='Translate', magnitude_range=(0, 0.15), direction='horizontal'),
            dict(type='Translate', magnitude_range=(0, 0.15), direction='vertical'),
        ],
        num_policies=2,
        magnitude_level=10,
        magnitude_std='inf',
        hparams=dict(pad_val=0, interpolation='bicubic'),
    ),
    # Digit scenes, for which other configs start from these weights, also have dark digits.
    dict(type='Invert', prob=0.5),
    dict(type='ColorJitter', brightness=0.5, contrast=0.5),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64, interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type='edgenext_mm.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        pipeline=train_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=True),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    dataset=dict(
        type='edgenext_mm.ImageFolder',
        data_root=data_root,
        data_prefix='val',
        classes_from='train',
        pipeline=test_pipeline,
    ),
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_evaluator = dict(type='Accuracy', topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Schedule.
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=2e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=2, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', begin=2, end=30, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=30, val_interval=2)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(base_batch_size=64)

# Digit scenes, trained in minutes on a laptop. An example for your own data.
# The data: python tools/dataset_converters/digit_scenes.py
# Initial weights: train configs/classification/edgenext-xxsmall_digits.py before.
_base_ = [
    'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota.py',
    '../_base_/datasets/digit_scenes.py',
]

# Model: the classification demo trains the backbone, with layer scales that start at 1; a narrow
# neck and head are enough for ten classes (with 8 channels per group, as in the wide one).
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        arch='xxsmall',
        layer_scale_init_value=1.0,
        init_cfg=dict(checkpoint='work_dirs/edgenext-xxsmall_digits/epoch_30.pth'),
    ),
    neck=dict(in_channels=[48, 88, 168], out_channels=64),
    bbox_head=dict(
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(num_groups=8),
    ),
    test_cfg=dict(nms_pre=200, max_per_img=100),
)

# Data: DOTA's format, with your own classes. Digits are not flipped.
data_root = _base_.digit_scenes.data_root
data_preparation = _base_.digit_scenes.data_preparation
metainfo = _base_.digit_scenes.metainfo
resize = dict(type='mmdet.Resize', scale=(128, 128), keep_ratio=True)
train_pipeline = [*_base_.train_pipeline[:3], resize, _base_.train_pipeline[-1]]
val_pipeline = [_base_.val_pipeline[0], resize, *_base_.val_pipeline[2:]]
train_dataloader = dict(
    batch_size=16,
    **_base_.digit_scenes.loader,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='train/labelTxt/',
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=16,
    **_base_.digit_scenes.loader,
    dataset=dict(
        data_root=data_root, metainfo=metainfo, ann_file='val/labelTxt/', pipeline=val_pipeline
    ),
)
test_dataloader = val_dataloader

# Schedule.
optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=5, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=5, val_interval=3)
auto_scale_lr = dict(base_batch_size=16)

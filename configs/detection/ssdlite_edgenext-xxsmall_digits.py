# Digit scenes, trained in minutes on a laptop. An example for your own data.
# The data: python tools/dataset_converters/digit_scenes.py
# Initial weights: train configs/classification/edgenext-xxsmall_digits.py before.
_base_ = ['ssdlite_edgenext-xxsmall_4xb32-200e_coco.py', '../_base_/datasets/digit_scenes_coco.py']

# Model: the classification demo trains the backbone, with layer scales that start at 1. Digits are
# 48 to 88 pixels large, and so are the anchors of the first two levels.
sizes = [48, 80, 104, 112, 120, 124, 128]
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        layer_scale_init_value=1.0,
        init_cfg=dict(checkpoint='work_dirs/edgenext-xxsmall_digits/epoch_30.pth'),
    ),
    bbox_head=dict(
        num_classes=10,
        anchor_generator=dict(min_sizes=sizes[:-1], max_sizes=sizes[1:]),
    ),
)

# Data: COCO's format, with your own classes.
data_root = _base_.digit_scenes.data_root
data_preparation = _base_.digit_scenes.data_preparation
resize = dict(type='Resize', scale=(128, 128), keep_ratio=False)
train_pipeline = [*_base_.digit_scenes.augmentation, resize, dict(type='PackDetInputs')]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(
    batch_size=16,
    **_base_.digit_scenes.loader,
    dataset=dict(pipeline=train_pipeline, **_base_.digit_scenes.train_dataset),
)
val_dataloader = dict(
    **_base_.digit_scenes.loader,
    dataset=dict(pipeline=test_pipeline, **_base_.digit_scenes.val_dataset),
)
val_evaluator = dict(ann_file=_base_.digit_scenes.val_ann_file)
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# Schedule.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=0.05))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=7, convert_to_iter_based=True),
]
custom_hooks = []
train_cfg = dict(max_epochs=7, val_interval=2)
auto_scale_lr = dict(base_batch_size=16)

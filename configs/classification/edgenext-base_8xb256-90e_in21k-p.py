# Pre-training on ImageNet-21K-P (10,450 classes) with ConvNeXt's schedule, starting from the
# ImageNet-1K weights. The authors' settings are unpublished.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/imagenet21k_p_256.py',
    '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.1,
        init_cfg=dict(type='Pretrained', checkpoint='edgenext-base_3rdparty_in1k'),
    ),
    head=dict(num_classes=10450, in_channels=584),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
data_preprocessor = dict(num_classes=10450)  # for Mixup's soft labels

# Schedule.
optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=5,
        end=90,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = []
train_cfg = dict(max_epochs=90)

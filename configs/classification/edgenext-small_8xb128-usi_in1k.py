# Distilled with USI (arXiv 2204.03475): 300 epochs with a batch size of 1024, one image size. The
# authors' changes to USI's settings are unpublished; drop path is that of the plain recipe.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/imagenet_256.py',
    '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    type='edgenext_mm.DistilledClassifier',
    backbone=dict(arch='small', drop_path_rate=0.1),
    head=dict(in_channels=304, loss=dict(label_smooth_val=0.0)),
    # TResNet-L-v2 (83.9% top-1); its inputs are between 0 and 1.
    teacher=dict(
        type='TimmClassifier',
        model_name='tresnet_v2_l',
        pretrained=True,
        data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
    ),
    kd_weight=5.0,
    temperature=1.0,
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
data_preprocessor = dict(num_classes=1000)  # for Mixup's soft labels

# Data: timm's rand-m7-mstd0.5-inc1. An epoch has three augmented versions of a third of the images.
train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(_base_.rand_augment, magnitude_level=7),
    *_base_.train_pipeline[3:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=269),  # 256 / 0.95
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(
    batch_size=128,
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=3),
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# Schedule.
optim_wrapper = dict(optimizer=dict(lr=2e-3, weight_decay=2e-2), accumulative_counts=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, end=5, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=5,
        end=300,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
custom_hooks = [{**_base_.custom_hooks[0], 'momentum': 0.00004, 'interval': 1}]
auto_scale_lr = dict(base_batch_size=1024)

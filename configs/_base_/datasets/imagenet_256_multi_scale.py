# ImageNet-1K as the paper trains on it: crops of 160 to 320 pixels, and more of them per batch the
# smaller they are. Configs import edgenext_mm.datasets.transforms for it.
_base_ = 'imagenet_256.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], type='edgenext_mm.MultiScaleRandomResizedCrop'),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(round_up=False),
    batch_sampler=dict(
        type='edgenext_mm.MultiScaleBatchSampler', base_size=256, size_range=(160, 320)
    ),
)

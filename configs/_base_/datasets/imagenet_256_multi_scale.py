# ImageNet-1K as in the paper: crops of 160 to 320 pixels; batches of smaller crops are larger.
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

# Handwritten digits at 48, 64 and 80 pixels: the multi-scale sampler, trained in minutes.
_base_ = 'edgenext-xxsmall_digits.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(
        type='edgenext_mm.MultiScaleRandomResizedCrop',
        scale=64,
        crop_ratio_range=(0.8, 1.0),
        aspect_ratio_range=(0.9, 1.1),
        interpolation='bicubic',
    ),
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(
    num_workers=2,
    dataset=dict(pipeline=train_pipeline),
    sampler=dict(round_up=False),
    batch_sampler=dict(
        type='edgenext_mm.MultiScaleBatchSampler',
        base_size=64,
        size_range=(48, 80),
        num_sizes=3,
        divisor=16,
    ),
)

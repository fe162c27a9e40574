# ImageNet-1K as in the paper: crops of 160 to 320 pixels; batches of smaller crops are larger.
_base_ = 'imagenet_256.py'

train_dataloader = dict(
    sampler=dict(round_up=False),
    batch_sampler=dict(
        type='edgenext_mm.MultiScaleBatchSampler', base_size=256, size_range=(160, 320)
    ),
)

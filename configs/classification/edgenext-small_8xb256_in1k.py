_base_ = 'edgenext-xxsmall_8xb256_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.1), head=dict(in_channels=304))

# RandAugment instead of colour jitter.
train_pipeline = [
    *_base_.train_pipeline[:2],
    _base_.rand_augment,
    *_base_.train_pipeline[3:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

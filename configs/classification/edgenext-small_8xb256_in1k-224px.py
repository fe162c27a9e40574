# At 224x224. Evaluation resizes the short side to 256 (224 / 0.875) and crops the centre.
_base_ = 'edgenext-small_8xb256_in1k.py'

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=224),
    *_base_.train_pipeline[2:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=256),
    dict(_base_.test_pipeline[2], crop_size=224),
    _base_.test_pipeline[3],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline), batch_sampler=dict(base_size=224))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

# timm's edgenext_small_rw: overlapping convolutions lower the resolution, and convolutions have no
# bias. timm's recipe is unpublished; this is that of the paper's small. timm evaluates with the
# short side at 284 (256 / 0.9), or 320 without crop.
_base_ = 'edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch='small_rw'), head=dict(in_channels=384))
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=284),  # 256 / 0.9
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

_base_ = 'ssdlite_edgenext-xxsmall_4xb32-200e_coco.py'

model = dict(
    backbone=dict(arch='small', init_cfg=dict(checkpoint='edgenext-small_3rdparty_in1k')),
    neck=dict(in_channels=(160, 304)),
)

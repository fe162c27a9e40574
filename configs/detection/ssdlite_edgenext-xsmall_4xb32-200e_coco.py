_base_ = 'ssdlite_edgenext-xxsmall_4xb32-200e_coco.py'

model = dict(
    backbone=dict(arch='xsmall', init_cfg=dict(checkpoint='edgenext-xsmall_3rdparty_in1k')),
    neck=dict(in_channels=(100, 192)),
)

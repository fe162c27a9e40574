_base_ = 'gfl_edgenext-small_fpn_8xb2-1x_coco.py'

model = dict(
    backbone=dict(arch='xsmall', init_cfg=dict(checkpoint='edgenext-xsmall_3rdparty_in1k')),
    neck=dict(in_channels=[64, 100, 192]),
)

_base_ = 'gfl_edgenext-small_fpn_8xb2-1x_coco.py'

model = dict(
    backbone=dict(arch='base', init_cfg=dict(checkpoint='edgenext-base_3rdparty_in1k')),
    neck=dict(in_channels=[160, 288, 584]),
)

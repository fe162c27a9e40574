_base_ = 'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota.py'

model = dict(
    backbone=dict(arch='xsmall', init_cfg=dict(checkpoint='edgenext-xsmall_3rdparty_in1k')),
    neck=dict(in_channels=[64, 100, 192]),
)

_base_ = 'deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512.py'

model = dict(
    backbone=dict(arch='xsmall', init_cfg=dict(checkpoint='edgenext-xsmall_3rdparty_in1k')),
    decode_head=dict(in_channels=192),
)

_base_ = 'deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512.py'

model = dict(
    backbone=dict(
        arch='small', drop_path_rate=0.1, init_cfg=dict(checkpoint='edgenext-small_3rdparty_in1k')
    ),
    decode_head=dict(in_channels=304),
)

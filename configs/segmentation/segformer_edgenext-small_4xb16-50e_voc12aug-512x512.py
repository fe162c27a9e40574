# SegFormer's light head on all four stages (strides 4 to 32), with the recipe of DeepLabv3.
_base_ = 'deeplabv3_edgenext-small_4xb16-50e_voc12aug-512x512.py'

model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3), output_stride=32, output_norms=True),
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[48, 96, 160, 304],
        in_index=[0, 1, 2, 3],
        channels=128,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    ),
)

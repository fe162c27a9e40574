# SegFormer's light head on all four stages (strides 4 to 32), on custom data: docs/custom_data.md.
_base_ = 'deeplabv3_edgenext_custom.py'

model = dict(
    backbone=dict(out_indices=(0, 1, 2, 3), output_stride=32, output_norms=True),
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels='$stage_dims',
        in_index=[0, 1, 2, 3],
        channels=96,
        dropout_ratio=0.1,
        num_classes='$num_classes',
        ignore_index='$ignore_index',
        norm_cfg=dict(type='BN'),
        align_corners=False,
        loss_decode=_base_.model.decode_head.loss_decode,
    ),
)

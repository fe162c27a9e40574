# DeepLabv3 on custom data: docs/custom_data.md.
_base_ = [
    '../_base_/models/deeplabv3_edgenext.py',
    '../_base_/custom/masks.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(
        size='$crop_size_hw', test_cfg=dict(size='$image_size_hw'), seg_pad_val='$ignore_index'
    ),
    backbone=dict(
        arch='$arch',
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(checkpoint='$weights'),
    ),
    decode_head=dict(
        in_channels='$embed_dim', num_classes='$num_classes', ignore_index='$ignore_index'
    ),
)
default_hooks = dict(checkpoint=dict(save_best='mIoU'))  # mmseg's first metric is pixel accuracy

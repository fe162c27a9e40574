# GFL on custom data: docs/custom_data.md. Neck and head are narrow (`width`)
# and two convolutions deep; COCO's have 256 channels and four.
_base_ = [
    '../_base_/models/gfl_edgenext_fpn.py',
    '../_base_/custom/coco.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

width = 64
# Not fitted to the boxes: ATSS compares the anchors near a box with each other, and fitted ones
# learned more slowly (docs/results.md).
anchor_scale = 8
model = dict(
    backbone=dict(
        arch='$arch',
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(checkpoint='$weights'),
    ),
    neck=dict(in_channels='$stage_dims', out_channels='$width'),
    bbox_head=dict(
        num_classes='$num_classes',
        in_channels='$width',
        feat_channels='$width',
        stacked_convs=2,
        norm_cfg=dict(type='GN', num_groups=8),
        anchor_generator=dict(octave_base_scale='$anchor_scale'),
    ),
)

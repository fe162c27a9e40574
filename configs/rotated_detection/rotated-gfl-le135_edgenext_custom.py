# Rotated GFL on custom data: docs/custom_data.md. Neck and head are narrow (`width`)
# and two convolutions deep; DOTA's have 256 channels and four.
_base_ = [
    '../_base_/models/rotated_gfl_edgenext_fpn.py',
    '../_base_/custom/rotated.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

batch_size = 8
width = 64
anchor_scale = 4  # not fitted to the boxes: see GFL's config
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
        norm_cfg=dict(num_groups=8),
        anchor_generator=dict(octave_base_scale='$anchor_scale'),
    ),
    # DOTA's threshold of 0.1 suppresses parked cars and other objects whose boxes overlap. With its
    # 2,000 boxes per level, NMS takes a CPU many seconds per image after the first epochs.
    test_cfg=dict(nms_pre=500, max_per_img=500, nms=dict(iou_threshold=0.3)),
)

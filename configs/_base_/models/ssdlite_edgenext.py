# SSDLite with EdgeNeXt for 320x320. Other configs override the arch and the neck's `in_channels`.
default_scope = 'mmdet'
channels = (512, 256, 256, 128, 128, 64)
# Anchor sizes from 0.1 to 1.05 of the input size, in equal steps. SSD adds a square anchor between
# each pair of neighbours.
sizes = [32, 82.67, 133.33, 184, 234.67, 285.33, 336]
model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=1,
    ),
    backbone=dict(
        type='edgenext_mm.EdgeNeXt',
        arch='xxsmall',
        out_indices=(2, 3),
        init_cfg=dict(type='Pretrained', checkpoint='edgenext-xxsmall_3rdparty_in1k'),
    ),
    neck=dict(
        type='edgenext_mm.SSDLiteNeck',
        in_channels=(88, 168),
        out_channels=channels,
        level_strides=(2, 2, 2, 2),
        level_paddings=(1, 1, 1, 1),
        l2_norm_scale=None,
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
    ),
    bbox_head=dict(
        type='edgenext_mm.SSDHead',
        in_channels=channels,
        num_classes=80,
        use_depthwise=True,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU'),
        anchor_generator=dict(
            type='SSDAnchorGenerator',
            scale_major=False,
            input_size=320,
            strides=[16, 32, 64, 107, 160, 320],  # map sizes: 20, 10, 5, 3, 2 and 1
            ratios=[[2, 3], [2, 3], [2, 3], [2, 3], [2, 3], [2]],
            min_sizes=sizes[:-1],
            max_sizes=sizes[1:],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
    ),
    train_cfg=dict(
        assigner=dict(
            type='MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.5,
            min_pos_iou=0.0,
            ignore_iof_thr=-1,
            gt_max_assign_all=False,
        ),
        sampler=dict(type='PseudoSampler'),
        smoothl1_beta=1.0,
        allowed_border=-1,
        pos_weight=-1,
        neg_pos_ratio=3,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000,
        nms=dict(type='nms', iou_threshold=0.5),
        min_bbox_size=0,
        score_thr=0.01,
        max_per_img=200,
    ),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])

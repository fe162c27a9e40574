# Rotated GFL with EdgeNeXt. Other configs override the arch, weights and the neck's `in_channels`.
default_scope = 'mmrotate'
angle_version = 'le135'
model = dict(
    type='mmdet.RetinaNet',
    data_preprocessor=dict(
        type='mmdet.DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
        boxtype2tensor=False,
    ),
    backbone=dict(
        type='edgenext_mm.EdgeNeXt',
        arch='small',
        out_indices=(1, 2, 3),
        output_norms=True,
        init_cfg=dict(type='Pretrained', checkpoint='edgenext-small_3rdparty_in1k'),
    ),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[96, 160, 304],
        out_channels=256,
        add_extra_convs='on_output',
        num_outs=5,
    ),
    bbox_head=dict(
        type='edgenext_mm.RotatedGFLHead',
        num_classes=15,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        norm_cfg=dict(type='GN', num_groups=32, requires_grad=True),
        reg_max=8,
        reg_decoded_bbox=True,
        # No angle version, so that all anchors are upright, as in the published model.
        anchor_generator=dict(
            type='FakeRotatedAnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32, 64, 128],
        ),
        # norm_factor=1: angle deltas are in units of pi.
        bbox_coder=dict(
            type='DeltaXYWHTRBBoxCoder',
            angle_version=angle_version,
            norm_factor=1,
            edge_swap=False,
            proj_xy=True,
            target_means=(0.0, 0.0, 0.0, 0.0, 0.0),
            target_stds=(1.0, 1.0, 1.0, 1.0, 1.0),
        ),
        loss_cls=dict(
            type='mmdet.FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0
        ),
        loss_bbox=dict(type='edgenext_mm.RotatedIoULoss', mode='log', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            type='RotatedATSSAssigner', topk=9, iou_calculator=dict(type='RBboxOverlaps2D')
        ),
        sampler=dict(type='mmdet.PseudoSampler'),  # focal loss uses all anchors
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=2000,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type='nms_rotated', iou_threshold=0.1),
        max_per_img=2000,
    ),
)
visualizer = dict(type='RotLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])

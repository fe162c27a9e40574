# Rotated RTMDet on custom data: docs/custom_data.md. Head and training targets are those of
# mmrotate's rotated_rtmdet_tiny; neck and head are narrower (`width`), with BatchNorm of one GPU.
_base_ = [
    '../_base_/models/rotated_gfl_edgenext_fpn.py',
    '../_base_/custom/rotated.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

batch_size = 8
width = 64
lr_from_scratch = 2e-3
angle_version = 'le90'
norm_act = dict(norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU'))
model = dict(
    type='mmdet.RTMDet',
    backbone=dict(
        arch='$arch',
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(checkpoint='$weights'),
    ),
    neck=dict(
        _delete_=True,
        type='mmdet.CSPNeXtPAFPN',
        in_channels='$stage_dims',
        out_channels='$width',
        num_csp_blocks=1,
        expand_ratio=0.5,
        **norm_act,
    ),
    bbox_head=dict(
        _delete_=True,
        type='RotatedRTMDetSepBNHead',
        num_classes='$num_classes',
        in_channels='$width',
        feat_channels='$width',
        stacked_convs=2,
        angle_version=angle_version,
        anchor_generator=dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistanceAnglePointCoder', angle_version=angle_version),
        loss_cls=dict(type='mmdet.QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type='edgenext_mm.RotatedIoULoss', mode='linear', loss_weight=2.0),
        with_objectness=False,
        exp_on_reg=True,
        share_conv=True,
        pred_kernel_size=1,
        use_hbbox_loss=False,
        scale_angle=False,
        loss_angle=None,
        **norm_act,
    ),
    train_cfg=dict(
        _delete_=True,
        assigner=dict(
            type='mmdet.DynamicSoftLabelAssigner',
            iou_calculator=dict(type='RBboxOverlaps2D'),
            topk=13,
        ),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    # DOTA's threshold of 0.1 suppresses parked cars and other objects whose boxes overlap. With its
    # 2,000 boxes per level, NMS takes a CPU many seconds per image after the first epochs.
    test_cfg=dict(nms_pre=500, max_per_img=500, nms=dict(iou_threshold=0.3)),
)
# The levels share convolutions.
optim_wrapper = dict(paramwise_cfg=dict(bypass_duplicate=True))

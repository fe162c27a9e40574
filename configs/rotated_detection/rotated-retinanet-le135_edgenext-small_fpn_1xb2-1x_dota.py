# mmrotate's RetinaNet: nine anchors per position, and box losses on deltas instead of boxes.
_base_ = 'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota.py'

head = _base_.model.bbox_head
model = dict(
    bbox_head=dict(
        _delete_=True,
        type='RotatedRetinaHead',
        num_classes=15,
        in_channels=256,
        anchor_generator=dict(
            type='FakeRotatedAnchorGenerator',
            angle_version='le135',
            octave_base_scale=4,
            scales_per_octave=3,
            ratios=[1.0, 0.5, 2.0],
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=head.bbox_coder,
        loss_cls=head.loss_cls,
        loss_bbox=dict(type='mmdet.L1Loss', loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(
            _delete_=True,
            type='mmdet.MaxIoUAssigner',
            pos_iou_thr=0.5,
            neg_iou_thr=0.4,
            min_pos_iou=0,
            ignore_iof_thr=-1,
            iou_calculator=dict(type='RBboxOverlaps2D'),
        ),
    ),
)

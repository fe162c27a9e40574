# Mask R-CNN on custom data: docs/custom_data.md.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    '../_base_/custom/coco.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

default_scope = 'mmdet'
task = 'instance-segmentation'
batch_size = 8
width = 128
default_anchor_scale = 8
anchor_strides = (4, 8, 16, 32, 64)
anchor_ratios = (0.5, 1.0, 2.0)
model = dict(
    backbone=dict(
        _delete_=True,
        type='edgenext_mm.EdgeNeXt',
        arch='$arch',
        out_indices=(0, 1, 2, 3),
        output_norms=True,
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(type='Pretrained', checkpoint='$weights'),
    ),
    neck=dict(in_channels='$stage_dims', out_channels='$width'),
    rpn_head=dict(
        in_channels='$width',
        feat_channels='$width',
        anchor_generator=dict(scales=['$anchor_scale']),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels='$width'),
        bbox_head=dict(in_channels='$width', fc_out_channels=512, num_classes='$num_classes'),
        mask_roi_extractor=dict(out_channels='$width'),
        mask_head=dict(
            in_channels='$width', conv_out_channels='$width', num_classes='$num_classes'
        ),
    ),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])

load_annotations = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
train_pipeline = [_base_.train_pipeline[0], load_annotations, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], load_annotations, _base_.test_pipeline[3]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
val_evaluator = dict(metric=['bbox', 'segm'])
test_evaluator = dict(metric=['bbox', 'segm'])

# mmdet's RetinaNet with EdgeNeXt as the backbone.
_base_ = [
    'mmdet::_base_/models/retinanet_r50_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/default_runtime.py',
]

default_scope = 'mmdet'
model = dict(
    backbone=dict(
        _delete_=True,
        type='edgenext_mm.EdgeNeXt',
        arch='small',
        out_indices=(0, 1, 2, 3),
        output_norms=True,
        init_cfg=dict(type='Pretrained', checkpoint='edgenext-small_3rdparty_in1k'),
    ),
    neck=dict(in_channels=[48, 96, 160, 304]),
)
visualizer = dict(type='DetLocalVisualizer', vis_backends=[dict(type='LocalVisBackend')])

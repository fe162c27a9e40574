_base_ = [
    '../_base_/models/gfl_edgenext_fpn.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/coco_1x.py',
    '../_base_/default_runtime.py',
]

_base_ = [
    '../_base_/models/ssdlite_edgenext.py',
    '../_base_/datasets/coco_ssd_320.py',
    '../_base_/schedules/ssdlite_200e.py',
    '../_base_/default_runtime.py',
]

_base_ = [
    '../_base_/models/ssdlite_edgenext.py',
    '../_base_/datasets/coco_ssd_320.py',
    '../_base_/schedules/ssdlite_200e.py',
    '../_base_/default_runtime.py',
]

custom_imports = dict(
    imports=[
        'edgenext_mm',
        'edgenext_mm.models.necks.ssdlite_neck',
        'edgenext_mm.models.dense_heads.ssd_head',
    ]
)

_base_ = [
    '../_base_/models/rotated_gfl_edgenext_fpn.py',
    '../_base_/datasets/dota_1024.py',
    '../_base_/schedules/dota_1x.py',
    '../_base_/default_runtime.py',
]

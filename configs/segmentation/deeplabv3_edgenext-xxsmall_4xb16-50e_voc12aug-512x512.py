_base_ = [
    '../_base_/models/deeplabv3_edgenext.py',
    '../_base_/datasets/voc12aug_512x512.py',
    '../_base_/schedules/voc_50e.py',
    '../_base_/default_runtime.py',
]

# The first of the metrics, which 'auto' would take, is pixel accuracy.
default_hooks = dict(checkpoint=dict(save_best='mIoU'))

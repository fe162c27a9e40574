_base_ = [
    '../_base_/models/deeplabv3_edgenext.py',
    '../_base_/datasets/voc12aug_512x512.py',
    '../_base_/schedules/voc_50e.py',
    '../_base_/default_runtime.py',
]

# 'auto' would use the first metric, which is pixel accuracy.
default_hooks = dict(checkpoint=dict(save_best='mIoU'))

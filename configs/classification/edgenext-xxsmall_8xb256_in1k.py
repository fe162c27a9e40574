_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/imagenet_256.py',
    '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py',
]

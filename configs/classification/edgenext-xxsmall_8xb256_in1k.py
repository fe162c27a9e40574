# The paper's recipe. The other sizes override the arch and the settings that depend on the size.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/imagenet_256_multi_scale.py',
    '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py',
]

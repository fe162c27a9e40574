# The paper's recipe. Siblings override the arch, and what their size is trained with besides.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/imagenet_256_multi_scale.py',
    '../_base_/schedules/in1k_300e.py',
    '../_base_/default_runtime.py',
]

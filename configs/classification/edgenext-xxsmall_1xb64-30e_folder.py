# Fine-tuning on your own image folder: inherit from this config and set `load_from`, the number of
# classes and the folder (see docs/finetuning.md).
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/image_folder_256.py',
    '../_base_/schedules/finetune_30e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(topk=(1,)))

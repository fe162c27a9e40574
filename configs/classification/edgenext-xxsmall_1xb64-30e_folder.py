# Fine-tuning on a folder of images of one's own: inherit, set `load_from`, the number of classes
# and the folder.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/datasets/image_folder_256.py',
    '../_base_/schedules/finetune_30e.py',
    '../_base_/default_runtime.py',
]

model = dict(head=dict(topk=(1,)))

# DOTA-v1.0 in patches of 1024 with an overlap of 512: training on the train split, evaluation on
# the val split. mmrotate's own trains on trainval.
_base_ = 'mmrotate::_base_/datasets/dota.py'

data_preparation = 'Download and split it as docs/datasets/dota.md says.'
train_dataloader = dict(
    dataset=dict(ann_file='train/annfiles/', data_prefix=dict(img_path='train/images/'))
)
val_dataloader = dict(
    dataset=dict(ann_file='val/annfiles/', data_prefix=dict(img_path='val/images/'))
)
test_dataloader = val_dataloader

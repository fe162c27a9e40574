# DOTA-v1.0 in patches of 1024 with an overlap of 512. Trains on the train split and evaluates on
# the val split; mmrotate's config trains on trainval.
_base_ = 'mmrotate::_base_/datasets/dota.py'

data_preparation = 'Download and split the data as described in docs/datasets/dota.md.'
train_dataloader = dict(
    dataset=dict(ann_file='train/annfiles/', data_prefix=dict(img_path='train/images/'))
)
val_dataloader = dict(
    dataset=dict(ann_file='val/annfiles/', data_prefix=dict(img_path='val/images/'))
)
test_dataloader = val_dataloader

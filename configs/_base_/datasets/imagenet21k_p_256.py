# ImageNet-21K-P (10,450 classes) at 256x256, one folder per class; see docs/datasets/imagenet.md.
_base_ = 'imagenet_256.py'

data_root = 'data/imagenet21k_p'
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='imagenet21k_train',
        pipeline=_base_.train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='imagenet21k_val',
        pipeline=_base_.test_pipeline,
    )
)
test_dataloader = val_dataloader

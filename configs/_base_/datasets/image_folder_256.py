# Your own images in DATA_ROOT/train/CLASS/* and DATA_ROOT/val/CLASS/*, with ImageNet's pipelines.
# The folders of the train split name the classes of all splits.
_base_ = 'imagenet_256.py'

data_root = 'data/images'
data_preparation = (
    'Put the images there, one folder per class, or set `data_root` of the data sets in the config '
    'to their folder.'
)
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='edgenext_mm.ImageFolder',
        data_root=data_root,
        data_prefix='train',
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='edgenext_mm.ImageFolder',
        data_root=data_root,
        data_prefix='val',
        classes_from='train',
        pipeline=_base_.test_pipeline,
    ),
)
val_evaluator = dict(topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

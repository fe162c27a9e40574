# Data of one's own: DATA_ROOT/train/CLASS/* and DATA_ROOT/val/CLASS/*, in ImageNet's pipelines.
_base_ = 'imagenet_256.py'

data_root = 'data/images'
data_preparation = (
    'Put the images there, one folder per class, or name their place in the config: `data_root` '
    'of the data sets.'
)
# What inference reads, too (edgenext_mm.datasets.image_files); mmpretrain's default lacks two.
extensions = ('.bmp', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='train',
        extensions=extensions,
        pipeline=_base_.train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_root=data_root,
        data_prefix='val',
        extensions=extensions,
        pipeline=_base_.test_pipeline,
    ),
)
val_evaluator = dict(topk=(1,))
test_dataloader = val_dataloader
test_evaluator = val_evaluator

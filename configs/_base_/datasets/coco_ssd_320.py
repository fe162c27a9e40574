# COCO 2017 for SSD: all images are resized to 320x320 without keeping the aspect ratio; 32 images
# per GPU.
_base_ = 'coco_detection.py'

resize = dict(type='Resize', scale=(320, 320), keep_ratio=False, interpolation='bicubic')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='MinIoURandomCrop'),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=8,
    batch_sampler=None,  # all images have the same shape
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=32, num_workers=8, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

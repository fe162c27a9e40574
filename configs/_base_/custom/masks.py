# Masks of class indices: data_root/train/images/ and data_root/train/masks/*.png; the same for val.
task = 'segmentation'
image_size = (512, 512)  # width, height

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale='$image_size', ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size='$crop_size_hw', cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale='$image_size', keep_ratio=True),
    # After Resize, so that annotations keep the original size.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset = dict(
    type='BaseSegDataset',
    data_root='$data_root',
    metainfo=dict(classes='$classes', palette='$palette'),
    img_suffix='$img_suffix',
    seg_map_suffix='.png',
    ignore_index='$ignore_index',
)
train_dataloader = dict(
    batch_size='$batch_size',
    num_workers='$num_workers',
    persistent_workers=True,
    drop_last='$drop_last',
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='train/images', seg_map_path='train/masks'),
        pipeline=train_pipeline,
    ),
)
test_loader = dict(
    batch_size=1,  # images have different sizes until the model pads them
    num_workers='$num_workers',
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_dataloader = dict(
    **test_loader,
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='$val_split/images', seg_map_path='$val_split/masks'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    **test_loader,
    dataset=dict(
        **dataset,
        data_prefix=dict(img_path='$test_split/images', seg_map_path='$test_split/masks'),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

# Boxes in COCO's format: data_root/annotations/train.json and val.json, data_root/train/images/ and
# val/images/. Images keep their aspect ratio.
task = 'detection'
image_size = (640, 480)  # width, height

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomResize', scale='$image_size', ratio_range=(0.8, 1.25), keep_ratio=True),
    dict(
        type='RandomChoice',  # half of the crops contain an object; many small ones would not
        transforms=[
            [dict(type='RandomCrop', crop_size='$crop_size', allow_negative_crop=False)],
            [dict(type='RandomCrop', crop_size='$crop_size', allow_negative_crop=True)],
        ],
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale='$image_size', keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(type='CocoDataset', data_root='$data_root', metainfo=dict(classes='$classes'))
loader = dict(batch_size='$batch_size', num_workers='$num_workers', persistent_workers=True)
train_dataloader = dict(
    **loader,
    drop_last='$drop_last',
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/images/'),
        filter_cfg=dict(filter_empty_gt=False),  # images without objects show the background
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/$val_split.json',
        data_prefix=dict(img='$val_split/images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='annotations/$test_split.json',
        data_prefix=dict(img='$test_split/images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='CocoMetric', ann_file='$val_ann_file', metric='bbox')
test_evaluator = dict(type='CocoMetric', ann_file='$test_ann_file', metric='bbox')

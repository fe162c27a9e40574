# Rotated boxes in DOTA's format: data_root/train/images/ and data_root/train/labelTxt/*.txt, and
# the same for val.
task = 'rotated-detection'
image_size = (640, 640)  # width, height

train_pipeline = [
    dict(type='mmdet.LoadImageFromFile'),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(type='mmdet.PhotoMetricDistortion'),
    dict(
        type='RandomResize',
        resize_type='mmdet.Resize',
        scale='$image_size',
        ratio_range=(0.8, 1.25),
        keep_ratio=True,
    ),
    dict(
        type='RandomChoice',  # half of the crops contain an object; many small ones would not
        transforms=[
            [dict(type='mmdet.RandomCrop', crop_size='$crop_size', allow_negative_crop=False)],
            [dict(type='mmdet.RandomCrop', crop_size='$crop_size', allow_negative_crop=True)],
        ],
    ),
    dict(type='mmdet.RandomFlip', prob=0.75, direction=['horizontal', 'vertical', 'diagonal']),
    dict(type='mmdet.PackDetInputs'),
]
test_pipeline = [
    dict(type='mmdet.LoadImageFromFile'),
    dict(type='mmdet.Resize', scale='$image_size', keep_ratio=True),
    dict(type='mmdet.LoadAnnotations', with_bbox=True, box_type='qbox'),
    dict(type='ConvertBoxType', box_type_mapping=dict(gt_bboxes='rbox')),
    dict(
        type='mmdet.PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'),
    ),
]
dataset = dict(
    type='DOTADataset',
    data_root='$data_root',
    metainfo=dict(classes='$classes'),
    img_suffix='$img_extension',
)
loader = dict(batch_size='$batch_size', num_workers='$num_workers', persistent_workers=True)
train_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        **dataset,
        ann_file='train/labelTxt/',
        data_prefix=dict(img_path='train/images/'),
        filter_cfg=dict(filter_empty_gt=False),  # images without objects show the background
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='$val_split/labelTxt/',
        data_prefix=dict(img_path='$val_split/images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    **loader,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        **dataset,
        ann_file='$test_split/labelTxt/',
        data_prefix=dict(img_path='$test_split/images/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='edgenext_mm.RotatedBoxMetric')
test_evaluator = val_evaluator

# PASCAL VOC 2012 segmentation: 1,464 training images, 1,449 for validation. Evaluation brings the
# long side to 512, pads to 512x512, and compares at the image's own size.
data_root = 'data/VOCdevkit/VOC2012'
data_preparation = (
    'VOC 2012 is laid out as JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/ under '
    f'{data_root}, as its archive unpacks under data; see docs/datasets/voc.md.'
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # The short side, evenly between 256 and 768.
    dict(type='RandomResize', scale=[(2048, 256), (2048, 768)], keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='RandomRotate', prob=1.0, degree=10),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 512), keep_ratio=True),
    # After Resize: predictions are compared with annotations as they are.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
dataset_train = dict(
    type='PascalVOCDataset',
    data_root=data_root,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/train.txt',
    pipeline=train_pipeline,
)
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,  # BatchNorm behind the head's global pooling cannot train on a single image
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dataset_train,
)
val_dataloader = dict(
    batch_size=1,  # images differ in size until they are padded in the model
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator

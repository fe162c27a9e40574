# PASCAL VOC 2012 segmentation: 1,464 training and 1,449 validation images. Evaluation resizes the
# long side to 512, pads to 512x512, and compares the prediction at the original size.
data_root = 'data/VOCdevkit/VOC2012'
data_preparation = (
    'Unpack the archive of VOC 2012 in data; it puts JPEGImages/, SegmentationClass/ and '
    f'ImageSets/Segmentation/ into {data_root}. See docs/datasets/voc.md.'
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    # Draws the short side uniformly from 256 to 768.
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
    # After Resize, so that annotations keep the original size.
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
    drop_last=True,  # BatchNorm after the head's global pooling cannot train on one image
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dataset_train,
)
val_dataloader = dict(
    batch_size=1,  # images have different sizes until the model pads them
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

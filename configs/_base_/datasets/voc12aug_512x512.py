# VOC 2012 and SBD: 1,464 + 9,118 = 10,582 training images. mmseg's
# tools/dataset_converters/voc_aug.py writes the files.
_base_ = 'voc12_512x512.py'

dataset_aug = dict(
    type='PascalVOCDataset',
    data_root=_base_.data_root,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    ann_file='ImageSets/Segmentation/aug.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(
    dataset=dict(_delete_=True, type='ConcatDataset', datasets=[_base_.dataset_train, dataset_aug]),
)

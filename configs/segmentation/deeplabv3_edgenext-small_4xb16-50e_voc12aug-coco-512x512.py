# The paper's training data: VOC 2012, SBD, and the COCO images that contain VOC's classes.
# tools/dataset_converters/coco_to_voc.py makes the masks (see docs/datasets/voc.md).
_base_ = 'deeplabv3_edgenext-small_4xb16-50e_voc12aug-512x512.py'

dataset_coco = dict(
    type='PascalVOCDataset',
    data_root='data',
    data_prefix=dict(img_path='coco/train2017', seg_map_path='coco_voc/SegmentationClass'),
    ann_file='coco_voc/ImageSets/Segmentation/train2017.txt',
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(
    dataset=dict(datasets=[_base_.dataset_train, _base_.dataset_aug, dataset_coco])
)

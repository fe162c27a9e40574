# COCO 2017, boxes and masks, in mmdet's usual pipelines (short side 800); two images per GPU.
_base_ = 'mmdet::_base_/datasets/coco_instance.py'

data_preparation = (
    'COCO 2017 is laid out as annotations/, train2017/ and val2017/ under data/coco; see '
    'configs/detection/README.md. Elsewhere: --cfg-options train_dataloader.dataset.data_root='
    'FOLDER val_dataloader.dataset.data_root=FOLDER val_evaluator.ann_file=FILE'
)

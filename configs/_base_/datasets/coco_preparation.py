# Error messages show this text if COCO 2017 is not found.
data_preparation = (
    'Put annotations/, train2017/ and val2017/ of COCO 2017 into data/coco; see '
    'docs/datasets/coco.md. For another folder: --cfg-options train_dataloader.dataset.data_root='
    'FOLDER val_dataloader.dataset.data_root=FOLDER val_evaluator.ann_file=FILE'
)

# Where COCO 2017 is looked for, said when it is not there.
data_preparation = (
    'COCO 2017 is laid out as annotations/, train2017/ and val2017/ under data/coco; see '
    'docs/datasets/coco.md. Elsewhere: --cfg-options train_dataloader.dataset.data_root='
    'FOLDER val_dataloader.dataset.data_root=FOLDER val_evaluator.ann_file=FILE'
)

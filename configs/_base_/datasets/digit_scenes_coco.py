# Digit scenes in COCO's format.
_base_ = 'digit_scenes.py'

digit_scenes = dict(
    train_dataset=dict(
        data_root=_base_.digit_scenes.data_root,
        metainfo=_base_.digit_scenes.metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='train/images/'),
    ),
    val_dataset=dict(
        data_root=_base_.digit_scenes.data_root,
        metainfo=_base_.digit_scenes.metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='val/images/'),
    ),
    val_ann_file=_base_.digit_scenes.data_root + 'annotations/val.json',
    # Digits are not flipped.
    augmentation=[
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PhotoMetricDistortion'),
    ],
)

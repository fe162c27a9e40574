# Digit scenes, trained in minutes on a laptop. An example for your own data.
# The data: python tools/dataset_converters/digit_scenes.py
# Initial weights: train configs/classification/edgenext-xxsmall_digits.py before.
_base_ = [
    'deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512.py',
    '../_base_/datasets/digit_scenes.py',
]

# Model: strokes are thinner than a cell of stride 16, and stage 2 costs half of stage 3 there; the
# rates suit digits of 6 to 11 cells. Backgrounds cover 83%, hence the class weights. With mmseg's
# initial deviation of 0.01, telling digits apart starts thousands of images later.
size = (128, 128)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=size, test_cfg=dict(size=size)),
    backbone=dict(
        out_indices=(2,),
        output_stride=8,
        layer_scale_init_value=1.0,
        init_cfg=dict(checkpoint='work_dirs/edgenext-xxsmall_digits/epoch_30.pth'),
    ),
    decode_head=dict(
        in_channels=88,
        channels=48,
        dilations=(1, 2, 4, 6),
        num_classes=11,
        init_cfg=dict(type='Normal', std=0.3, override=dict(name='conv_seg')),
        # mmseg averages over labelled pixels where there are weights, and fails if told to.
        loss_decode=dict(class_weight=[0.5] + [1.0] * 10, avg_non_ignore=False),
    ),
)

# Data: masks with 0 for the background and 1 to 10 for the digits, named as their images. Digits
# are not flipped, and their colours vary already.
data_root = _base_.digit_scenes.data_root
data_preparation = _base_.digit_scenes.data_preparation
metainfo = dict(
    classes=('background', *_base_.digit_scenes.metainfo.classes),
    palette=[
        [0, 0, 0], [230, 25, 75], [60, 180, 75], [255, 225, 25], [0, 130, 200], [245, 130, 48],
        [145, 30, 180], [70, 240, 240], [240, 50, 230], [210, 245, 60], [250, 190, 212],
    ],
)  # fmt: skip
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomCrop', crop_size=size),
    dict(type='PackSegInputs'),
]
resize = dict(type='Resize', scale=size, keep_ratio=True)
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(
    batch_size=16,
    **_base_.digit_scenes.loader,
    dataset=dict(
        _delete_=True,
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='train/images', seg_map_path='train/masks'),
        img_suffix='.png',
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    **_base_.digit_scenes.loader,
    dataset=dict(
        _delete_=True,
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='val/images', seg_map_path='val/masks'),
        img_suffix='.png',
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Schedule.
optim_wrapper = dict(
    optimizer=dict(lr=4e-3, weight_decay=0.05),
    paramwise_cfg=dict(_delete_=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=6, convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=6, val_interval=2)
auto_scale_lr = dict(base_batch_size=16)

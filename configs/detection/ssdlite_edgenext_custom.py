# SSDLite on custom data: docs/custom_data.md. Images are stretched to `image_size`.
_base_ = [
    '../_base_/models/ssdlite_edgenext.py',
    '../_base_/custom/coco.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

image_size = (320, 320)  # width, height
keep_ratio = False
model = dict(
    backbone=dict(
        arch='$arch',
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(checkpoint='$weights'),
    ),
    neck=dict(in_channels='$stage_dims'),
    bbox_head=dict(
        num_classes='$num_classes',
        anchor_generator=dict(
            input_size='$image_size',
            strides='$ssd_strides',
            min_sizes='$ssd_min_sizes',
            max_sizes='$ssd_max_sizes',
        ),
    ),
)

resize = dict(type='Resize', scale='$image_size', keep_ratio=False, interpolation='bicubic')
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='MinIoURandomCrop'),
    resize,
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [_base_.test_pipeline[0], resize, *_base_.test_pipeline[2:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

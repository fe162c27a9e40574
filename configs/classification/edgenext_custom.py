# Classification of custom data: docs/custom_data.md.
_base_ = [
    '../_base_/models/edgenext_classifier.py',
    '../_base_/custom/images.py',
    '../_base_/custom/schedule.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch='$arch',
        layer_scale_init_value='$layer_scale',
        init_cfg=dict(type='Pretrained', checkpoint='$weights'),
    ),
    head=dict(num_classes='$num_classes', in_channels='$embed_dim', topk=(1,)),
)
batch_size = 64
max_epochs = 30
lr_from_scratch = 2e-3
optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
auto_scale_lr = dict(base_batch_size=64)

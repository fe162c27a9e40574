# Settings and schedule for custom data. `'$name'` stands for the setting `name` of the final
# config; settings that are not in the config are derived (docs/custom_data.md).
data_root = 'data/custom'
val_split = 'val'
test_split = 'val'
arch = 'xxsmall'
pretrained = True  # the ImageNet-1K weights of the arch; or a path, URL or name; False: none
batch_size = 16  # per GPU
max_epochs = 100
lr_pretrained = 2e-4  # for a total batch size of 16; auto_scale_lr scales it
lr_from_scratch = 1e-3

data_preparation = 'Write it with tools/import_data.py, or set `data_root` to its folder.'
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr='$lr', weight_decay=0.05),
    # No weight decay for one-dimensional parameters: norms, biases and layer scales.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'.gamma': dict(decay_mult=0.0)}
    ),
    clip_grad=dict(max_norm=10.0, norm_type=2),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.01,
        by_epoch=True,
        end='$warmup_epochs',
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        by_epoch=True,
        begin='$warmup_epochs',
        end='$max_epochs',
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(by_epoch=True, max_epochs='$max_epochs', val_interval='$val_interval')
val_cfg = dict()
test_cfg = dict()
val_loss = True  # log the loss on the validation data, too
auto_scale_lr = dict(enable=True, base_batch_size=16)

# 300 epochs of AdamW for an effective batch of 4096: 8 GPUs x 256 images x 2 accumulated steps.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=6e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    accumulative_counts=2,
    # No decay on what is one-dimensional: norms, biases and layer scales.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'.gamma': dict(decay_mult=0.0)}
    ),
)
# From 0 in the paper; mmengine's LinearLR multiplies step by step and cannot leave an exact 0.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, end=20, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=20,
        end=300,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# A moving average of decay 0.9995 over the optimiser's steps (every other iteration), evaluated
# beside the raw weights: accuracy/top1 is the average's, accuracy/top1_origin theirs.
custom_hooks = [
    dict(
        type='EMAHook',
        momentum=0.0005,
        interval=2,
        update_buffers=True,
        evaluate_on_origin=True,
        priority='ABOVE_NORMAL',
    )
]
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)
val_cfg = dict()
test_cfg = dict()
# Images per step over all GPUs, before accumulation: what --auto-scale-lr compares with.
auto_scale_lr = dict(base_batch_size=2048)

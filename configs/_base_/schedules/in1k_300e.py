# 300 epochs of AdamW with an effective batch size of 4096: 8 GPUs x 256 images x 2 accumulations.
optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    optimizer=dict(type='AdamW', lr=6e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    accumulative_counts=2,
    # No weight decay for one-dimensional parameters: norms, biases and layer scales.
    paramwise_cfg=dict(
        norm_decay_mult=0.0, bias_decay_mult=0.0, custom_keys={'.gamma': dict(decay_mult=0.0)}
    ),
)
# The paper's warm-up starts at 0. mmengine's LinearLR multiplies the current rate, so it cannot.
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
# Moving average of the weights with decay 0.9995 per optimiser step (every second iteration).
# accuracy/top1 is the accuracy of the average, accuracy/top1_origin that of the raw weights.
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
# --auto-scale-lr compares this with the images per iteration on all GPUs, before accumulation.
auto_scale_lr = dict(base_batch_size=2048)

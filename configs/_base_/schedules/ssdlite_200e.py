# 200 epochs of AdamW with a batch size of 128 (4 GPUs x 32) and a moving average of the weights.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=9e-4, weight_decay=0.01))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=500),
    dict(
        type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, end=200, convert_to_iter_based=True
    ),
]
custom_hooks = [
    dict(
        type='EMAHook',
        ema_type='ExponentialMovingAverage',
        momentum=0.0005,
        update_buffers=True,
        priority=49,
    )
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=128)

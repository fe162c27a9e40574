# 30 epochs of AdamW at a low rate, for weights that are trained already; batch 64.
_base_ = 'in1k_300e.py'

optim_wrapper = dict(optimizer=dict(lr=2e-4), accumulative_counts=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, end=2, by_epoch=True, convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        begin=2,
        end=30,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=64)

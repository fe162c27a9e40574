# Fine-tuning on ImageNet-1K from ImageNet-21K-P weights without their head: 30 epochs with a
# learning rate of 7.5e-5 and a batch size of 512. The authors' other changes are unpublished.
_base_ = 'edgenext-base_8xb256_in1k.py'

load_from = 'edgenext-base_in21k-p.pth'
train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(lr=7.5e-5), accumulative_counts=1)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        eta_min=1e-6,
        end=30,
        by_epoch=True,
        convert_to_iter_based=True,
    )
]
custom_hooks = [{**_base_.custom_hooks[0], 'interval': 1}]
train_cfg = dict(max_epochs=30)
auto_scale_lr = dict(base_batch_size=512)

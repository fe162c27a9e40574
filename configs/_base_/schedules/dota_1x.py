# 12 epochs of AdamW with a batch size of 2 and clipped gradients. Norms have no weight decay.
_base_ = 'coco_1x.py'

optim_wrapper = dict(
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(base_batch_size=2)

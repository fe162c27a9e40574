_base_ = 'edgenext-small_8xb256_in1k.py'

model = dict(
    backbone=dict(arch='base'),
    head=dict(in_channels=584),
    # The strengths are unpublished; these are the usual ones.
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]),
)
data_preprocessor = dict(num_classes=1000)  # for Mixup's soft labels

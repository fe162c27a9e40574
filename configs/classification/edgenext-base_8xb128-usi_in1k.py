_base_ = 'edgenext-small_8xb128-usi_in1k.py'

model = dict(backbone=dict(arch='base'), head=dict(in_channels=584))

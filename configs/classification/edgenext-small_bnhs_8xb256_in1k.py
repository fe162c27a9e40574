_base_ = 'edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch='small_bnhs'))

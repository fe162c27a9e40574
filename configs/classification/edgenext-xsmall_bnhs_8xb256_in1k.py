_base_ = 'edgenext-xsmall_8xb256_in1k.py'

model = dict(backbone=dict(arch='xsmall_bnhs'))

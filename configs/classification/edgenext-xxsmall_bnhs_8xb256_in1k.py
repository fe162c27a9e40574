_base_ = 'edgenext-xxsmall_8xb256_in1k.py'

model = dict(backbone=dict(arch='xxsmall_bnhs'))

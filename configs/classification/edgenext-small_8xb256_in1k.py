_base_ = 'edgenext-xxsmall_8xb256_in1k.py'

model = dict(backbone=dict(arch='small', drop_path_rate=0.1), head=dict(in_channels=304))

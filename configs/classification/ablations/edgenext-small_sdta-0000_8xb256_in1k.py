# Tables 7 and 9: Conv. encoders replace all SDTA encoders.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', num_sdta=(0, 0, 0, 0))))

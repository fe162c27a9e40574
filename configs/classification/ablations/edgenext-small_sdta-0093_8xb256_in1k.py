# Table 8: the last two stages have SDTA encoders only.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', num_sdta=(0, 0, 9, 3))))

# Table 7: Conv. encoders only, with kernels of 7 in every stage.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(
    backbone=dict(arch=dict(_delete_=True, base='small', num_sdta=(0, 0, 0, 0), kernel_sizes=7))
)

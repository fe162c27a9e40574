# Table 8: SDTA encoders as the whole of the last stage.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', num_sdta=(0, 0, 0, 3))))

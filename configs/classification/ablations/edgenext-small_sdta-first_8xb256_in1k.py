# Table 10: the SDTA encoder is the first of its stage, not the last.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', sdta_first=True)))

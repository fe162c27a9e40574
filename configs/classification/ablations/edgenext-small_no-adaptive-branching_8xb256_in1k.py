# Table 7: all SDTA encoders split their channels into 4 groups. The paper does not give the number;
# 4 is that of its last stage.
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', scales=4)))

# Table 7: SDTA encoders that split their channels in 4 everywhere. (The paper does not say in how
# many; 4 is what its last stage has.)
_base_ = '../edgenext-small_8xb256_in1k.py'

model = dict(backbone=dict(arch=dict(_delete_=True, base='small', scales=4)))

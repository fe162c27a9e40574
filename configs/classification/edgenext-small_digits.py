# Handwritten digits by small: the teacher of edgenext-xxsmall_digits-distilled.py.
_base_ = 'edgenext-xxsmall_digits.py'

model = dict(backbone=dict(arch='small'), head=dict(in_channels=304))

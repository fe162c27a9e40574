# Handwritten digits, xxsmall distilled from small. An example for your own distillation.
# Teacher: train configs/classification/edgenext-small_digits.py before.
_base_ = 'edgenext-xxsmall_digits.py'

model = dict(
    type='edgenext_mm.DistilledClassifier',
    teacher='configs/classification/edgenext-small_digits.py',
    teacher_checkpoint='work_dirs/edgenext-small_digits/epoch_30.pth',
)

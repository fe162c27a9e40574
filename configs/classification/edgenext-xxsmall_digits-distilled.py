# Handwritten digits, xxsmall distilled from small: the pattern for distillation of one's own.
# The teacher: configs/classification/edgenext-small_digits.py, trained.
_base_ = 'edgenext-xxsmall_digits.py'

model = dict(
    type='edgenext_mm.DistilledClassifier',
    teacher='configs/classification/edgenext-small_digits.py',
    teacher_checkpoint='work_dirs/edgenext-small_digits/epoch_30.pth',
)

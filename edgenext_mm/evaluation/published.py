"""Figures that the authors published, to set beside our own; never passed off as ours."""

#: ImageNet-1K top-1 in percent at 256x256, of the weights in the authors' releases
#: (https://github.com/mmaaz60/EdgeNeXt).
IMAGENET_TOP1 = {
    'xxsmall': 71.23,
    'xsmall': 74.96,
    'small': 79.41,
    'base': 82.47,
    'xxsmall_bnhs': 70.33,
    'xsmall_bnhs': 74.87,
    'small_bnhs': 78.39,
}

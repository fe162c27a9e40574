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

#: Of detectors and segmentors, by config: the paper's Tables 5 and 6, and the row of
#: https://github.com/Xuyihaoby/rotate_detection.
DENSE = {
    'ssdlite_edgenext-small_4xb32-200e_coco': '27.9 box AP, 6.2M, 2.1G',
    'deeplabv3_edgenext-small_4xb16-50e_voc12aug-coco-512x512': '80.2 mIoU, 6.5M, 8.7G',
    'rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota': '70.75 AP50',
}

from .class_balance import ClassBalancedDataset
from .handwritten_digits import write_digits
from .multi_scale_sampler import MultiScaleBatchSampler
from .scenes import SceneSettings, write_digit_scenes

__all__ = [
    'ClassBalancedDataset',
    'MultiScaleBatchSampler',
    'SceneSettings',
    'write_digit_scenes',
    'write_digits',
]

from .digit_scenes import SceneSettings, write_digit_scenes
from .digits import write_digits
from .multi_scale_sampler import MultiScaleBatchSampler

__all__ = ['MultiScaleBatchSampler', 'SceneSettings', 'write_digit_scenes', 'write_digits']

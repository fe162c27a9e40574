from .digit_scenes import SceneSettings, write_digit_scenes
from .digits import write_digits

__all__ = ['SceneSettings', 'write_digit_scenes', 'write_digits']

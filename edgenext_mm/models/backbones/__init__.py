from .arch import ARCHS, Arch, build_arch
from .edgenext import EdgeNeXt

__all__ = ['ARCHS', 'Arch', 'EdgeNeXt', 'build_arch']

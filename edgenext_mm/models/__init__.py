from .backbones import ARCHS, Arch, EdgeNeXt

__all__ = ['ARCHS', 'Arch', 'EdgeNeXt']

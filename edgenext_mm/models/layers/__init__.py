from .attention import CrossCovarianceAttention
from .encoders import ConvEncoder, SDTAEncoder, to_channels_last
from .norm import LayerNorm2d, build_norm
from .position_encoding import PositionalEncodingFourier
from .recompute import recompute

__all__ = [
    'ConvEncoder',
    'CrossCovarianceAttention',
    'LayerNorm2d',
    'PositionalEncodingFourier',
    'SDTAEncoder',
    'build_norm',
    'recompute',
    'to_channels_last',
]

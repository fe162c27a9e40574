"""EdgeNeXt architectures: the variants of the paper, and custom ones given as a dict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from ..errors import UserError

NUM_STAGES = 4
NORMS = ('LN', 'BN')
_SWITCHES = ('conv_bias', 'overlapping_stem', 'downsample_encoders')


class Stage(NamedTuple):
    """The part of a stage's architecture that determines its weights.

    A Conv. encoder is ``('conv', kernel_size)``, an SDTA encoder is
    ``('sdta', num_heads, scales, pos_encoding)``. ``reduction`` names what lowers the resolution:
    ``'patch'`` or ``'overlap'`` (the stem), ``'layer'`` or ``'encoder'`` (later stages). ``bias``
    says whether any depth-wise convolution has a bias.
    """

    dim: int
    norm: str
    encoders: tuple[tuple, ...]
    reduction: str = 'layer'
    bias: bool = True


@dataclass(frozen=True)
class Arch:
    """An EdgeNeXt architecture.

    The fields in the first two groups take one value per stage, or one value for all stages.

    Args:
        depths: Number of encoders, Conv. and SDTA together.
        dims: Number of channels.
        num_heads: Number of attention heads of the SDTA encoders, a divisor of ``dims``.
            Default: 4.
        kernel_sizes: Kernel size of the Conv. encoders, odd. Default: (3, 5, 7, 9).
        num_sdta: Number of SDTA encoders among the ``depths`` encoders. Default: (0, 1, 1, 1).
        sdta_first: Whether the SDTA encoders come before the Conv. encoders (Table 10 of the
            paper). Default: False.
        scales: Number of channel groups in an SDTA encoder, at least 2. Default: (2, 2, 3, 4).
        pos_encoding: Whether the SDTA encoders add a positional encoding.
            Default: (False, True, False, False).
        norm: ``'LN'`` (LayerNorm) or ``'BN'`` (BatchNorm). As in the paper, the convolutions of
            ``'BN'`` have no bias. Default: ``'LN'``.
        act: Activation of the MLPs, by its name in mmcv's registry. Default: ``'GELU'``.
        conv_bias: Whether convolutions have a bias; those of ``'BN'`` with a norm after them never
            do. Default: True.
        overlapping_stem: Whether the stem is a 9x9 convolution with padding, instead of the
            paper's 4x4 convolution, whose patches do not overlap. Default: False.
        downsample_encoders: Whether the first Conv. encoder of the stages 1 to 3 lowers the
            resolution, with a stride of 2, instead of the paper's norm and 2x2 convolution before
            the stage. ``dims`` must then be multiples of those of the stage before.
            Default: False.

    Raises:
        UserError: If a value is invalid.
    """

    # Size.
    depths: tuple[int, ...]
    dims: tuple[int, ...]
    num_heads: tuple[int, ...] = (4, 4, 4, 4)
    # Encoders.
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9)
    num_sdta: tuple[int, ...] = (0, 1, 1, 1)
    sdta_first: tuple[bool, ...] = (False, False, False, False)
    scales: tuple[int, ...] = (2, 2, 3, 4)
    pos_encoding: tuple[bool, ...] = (False, True, False, False)
    # Norm and activation.
    norm: str = 'LN'
    act: str = 'GELU'
    # Differences of timm's small_rw.
    conv_bias: bool = True
    overlapping_stem: bool = False
    downsample_encoders: bool = False

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UserError(
                f'`norm` of an EdgeNeXt arch must be one of {", ".join(NORMS)}, got {self.norm!r}.'
            )
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _SWITCHES and not isinstance(value, bool):
                raise UserError(
                    f'`{field.name}` of an EdgeNeXt arch must be True or False, got {value!r}.'
                )
            if field.name not in ('norm', 'act', *_SWITCHES):
                value = _per_stage(field.name, value)
                object.__setattr__(self, field.name, value)
        for i in range(NUM_STAGES):
            self._check_stage(i)

    def _check_stage(self, i: int) -> None:
        def require(holds: bool, name: str, rule: str) -> None:
            if not holds:
                value = getattr(self, name)[i]
                raise UserError(
                    f'`{name}` of an EdgeNeXt arch must be {rule}, got {value!r} in stage {i}.'
                )

        depth, dim, num_sdta = self.depths[i], self.dims[i], self.num_sdta[i]
        heads, scales, kernel_size = self.num_heads[i], self.scales[i], self.kernel_sizes[i]
        require(depth >= 1, 'depths', 'at least 1')
        require(dim >= 1, 'dims', 'at least 1')
        require(kernel_size >= 1 and kernel_size % 2 == 1, 'kernel_sizes', 'positive and odd')
        require(0 <= num_sdta <= depth, 'num_sdta', f'between 0 and the depth {depth}')
        if num_sdta:
            require(heads >= 1 and dim % heads == 0, 'num_heads', f'a divisor of the dim {dim}')
            # All groups but the last have ceil(dim / scales) channels.
            rule = f'at least 2, and leave channels for the last group of {dim}'
            require(scales >= 2 and (scales - 1) * -(-dim // scales) < dim, 'scales', rule)
        if self.downsample_encoders and i > 0:
            before = self.dims[i - 1]
            require(
                dim % before == 0, 'dims', f'a multiple of the dim {before} of the stage before'
            )
            rule = 'such that a Conv. encoder, which lowers the resolution, is the first'
            require(not self.is_sdta(i, 0), 'num_sdta', rule)

    def is_sdta(self, stage: int, index: int) -> bool:
        """Returns whether encoder ``index`` of ``stage`` is an SDTA encoder."""
        if self.sdta_first[stage]:
            return index < self.num_sdta[stage]
        return index >= self.depths[stage] - self.num_sdta[stage]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The four stages with their encoders in order."""
        return tuple(
            Stage(
                self.dims[i],
                self.norm,
                tuple(
                    ('sdta', self.num_heads[i], self.scales[i], self.pos_encoding[i])
                    if self.is_sdta(i, j)
                    else ('conv', self.kernel_sizes[i])
                    for j in range(self.depths[i])
                ),
                self._reduction(i),
                self.conv_bias and (self.norm == 'LN' or self.num_sdta[i] > 0),
            )
            for i in range(NUM_STAGES)
        )

    def _reduction(self, stage: int) -> str:
        if stage == 0:
            return 'overlap' if self.overlapping_stem else 'patch'
        return 'encoder' if self.downsample_encoders else 'layer'

    @property
    def name(self) -> str | None:
        """The name of the variant, or None for a custom architecture."""
        return next((name for name, arch in ARCHS.items() if arch == self), None)

    def __str__(self) -> str:
        size = f'depths {self.depths}, dims {self.dims}, {self.norm}+{self.act}'
        return f'{self.name!r} ({size})' if self.name else f'custom ({size})'


def _per_stage(name: str, value: Any) -> tuple:
    if not isinstance(value, (list, tuple)):
        return (value,) * NUM_STAGES
    if len(value) != NUM_STAGES:
        raise UserError(
            f'`{name}` of an EdgeNeXt arch must be one value, or one for each of the {NUM_STAGES} '
            f'stages, got {len(value)}: {value!r}.'
        )
    return tuple(value)


_SIZES: dict[str, dict[str, Any]] = {
    # 1.3M parameters, 261M MAdds at 256x256, 71.2% ImageNet-1K top-1
    'xxsmall': dict(depths=(2, 2, 6, 2), dims=(24, 48, 88, 168), num_heads=4),
    # 2.3M parameters, 538M MAdds, 75.0% top-1
    'xsmall': dict(depths=(3, 3, 9, 3), dims=(32, 64, 100, 192), num_heads=4),
    # 5.6M parameters, 1261M MAdds, 79.4% top-1
    'small': dict(depths=(3, 3, 9, 3), dims=(48, 96, 160, 304), num_heads=8),
    # 18.5M parameters, 3841M MAdds, 82.5% top-1
    'base': dict(depths=(3, 3, 9, 3), dims=(80, 160, 288, 584), num_heads=8),
}
_BNHS: dict[str, Any] = dict(norm='BN', act='HSwish')

#: The variants of the paper, of which those with BatchNorm and Hard-Swish (Figure 3) end in
#: ``_bnhs``, and timm's ``small_rw``.
ARCHS: dict[str, Arch] = {
    **{name: Arch(**size) for name, size in _SIZES.items()},
    **{f'{name}_bnhs': Arch(**_SIZES[name], **_BNHS) for name in ('xxsmall', 'xsmall', 'small')},
    # timm's edgenext_small_rw: 7.8M parameters, 1.6G MAdds
    'small_rw': Arch(
        depths=(3, 3, 9, 3),
        dims=(48, 96, 192, 384),
        num_heads=(8, 8, 8, 8),
        conv_bias=False,
        overlapping_stem=True,
        downsample_encoders=True,
    ),
}


def build_arch(arch: str | Mapping[str, Any] | Arch) -> Arch:
    """Builds an architecture from the name of a variant or from a dict.

    Args:
        arch: A name in :data:`ARCHS`, or a dict with the fields of :class:`Arch`. The dict holds
            ``depths`` and ``dims``, or the name of a variant as ``base`` and the fields that
            differ from it.

    Raises:
        UserError: If the name or a key is unknown, or a value is invalid.
    """
    if isinstance(arch, Arch):
        return arch
    if isinstance(arch, str):
        return _find_variant(arch)
    if not isinstance(arch, Mapping):
        raise UserError(f'`arch` must be a name or a dict, got {type(arch).__name__}: {arch!r}.')

    values = dict(arch)
    base = asdict(_find_variant(values.pop('base'))) if 'base' in values else {}
    known = [f.name for f in fields(Arch)]
    unknown = sorted(set(values) - set(known))
    missing = sorted({'depths', 'dims'} - set(values) - set(base))
    if unknown or missing:
        problems = [f'unknown {unknown}'] * bool(unknown) + [f'missing {missing}'] * bool(missing)
        raise UserError(
            f'The EdgeNeXt arch dict has wrong keys: {", ".join(problems)}. It takes `depths` and '
            f'`dims`, or `base` (one of {", ".join(ARCHS)}), and optionally '
            f'{", ".join(known[2:])}.'
        )
    return Arch(**{**base, **values})


def _find_variant(name: Any) -> Arch:
    if not isinstance(name, str) or name not in ARCHS:
        raise UserError(
            f'Unknown EdgeNeXt arch {name!r}. Choose one of {", ".join(ARCHS)}, or give a dict '
            "with at least `depths` and `dims`, e.g. dict(base='xxsmall', depths=(1, 1, 3, 1))."
        )
    return ARCHS[name]

"""What distinguishes one EdgeNeXt from another: the variants of the paper, and any of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple, TypeVar

from ..errors import UserError

NUM_STAGES = 4
NORMS = ('LN', 'BN')

T = TypeVar('T')


def _per_stage(name: str, value: T | list[T] | tuple[T, ...]) -> tuple[T, ...]:
    """One value for all stages, or one for each, as a tuple of four."""
    if not isinstance(value, (list, tuple)):
        return (value,) * NUM_STAGES
    if len(value) != NUM_STAGES:
        raise UserError(
            f'`{name}` of an EdgeNeXt arch needs one value for each of the {NUM_STAGES} stages, '
            f'got {len(value)}: {value!r}.'
        )
    return tuple(value)


class Stage(NamedTuple):
    """What the weights of a stage tell of it: a conv encoder is ``('conv', kernel_size)``, an SDTA
    encoder ``('sdta', num_heads, scales, pos_encoding)``."""

    dim: int
    norm: str
    encoders: tuple[tuple, ...]


@dataclass(frozen=True)
class Arch:
    """An EdgeNeXt architecture. Fields other than ``norm`` and ``act`` take one value per stage.

    Args:
        depths: Encoders per stage, Conv. and SDTA together.
        dims: Channels per stage.
        num_heads: Heads of cross-covariance attention. Each must divide its stage's channels.
        kernel_sizes: Kernel of the Conv. encoders' depth-wise convolution, odd.
        num_sdta: How many of a stage's encoders are SDTA encoders.
        sdta_first: Whether the SDTA encoders stand before the Conv. encoders (Table 10).
        scales: Channel groups into which an SDTA encoder splits its input, at least 2.
        pos_encoding: Whether the stage's SDTA encoders add a positional encoding.
        norm: ``'LN'`` or ``'BN'``. The paper's BatchNorm variants also drop the biases of
            convolutions, and normalise before pooling.
        act: Activation of the encoders' MLP, any name that mmcv registers.

    Raises:
        UserError: If a value does not fit; the message names the field.
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

    def __post_init__(self) -> None:
        for name in PER_STAGE:
            object.__setattr__(self, name, _per_stage(name, getattr(self, name)))
        if self.norm not in NORMS:
            raise UserError(
                f'`norm` of an EdgeNeXt arch is one of {", ".join(NORMS)}, got {self.norm!r}.'
            )
        for i in range(NUM_STAGES):
            self._check_stage(i)

    def _check_stage(self, i: int) -> None:
        def require(holds: bool, name: str, rule: str) -> None:
            if not holds:
                value = getattr(self, name)[i]
                raise UserError(
                    f'`{name}` of an EdgeNeXt arch must be {rule}, got {value!r} in stage {i}.'
                )

        dim = self.dims[i]
        require(self.depths[i] >= 1, 'depths', 'at least 1')
        require(dim >= 1, 'dims', 'at least 1')
        kernel = self.kernel_sizes[i]
        require(kernel >= 1 and kernel % 2 == 1, 'kernel_sizes', 'odd')
        require(
            0 <= self.num_sdta[i] <= self.depths[i],
            'num_sdta',
            f'between 0 and the depth, here {self.depths[i]}',
        )
        if self.num_sdta[i]:
            heads, scales = self.num_heads[i], self.scales[i]
            require(heads >= 1 and dim % heads == 0, 'num_heads', f'a divisor of the dim {dim}')
            require(
                scales >= 2 and (scales - 1) * -(-dim // scales) < dim,
                'scales',
                f'at least 2, and leave channels for the last group of {dim}',
            )

    def is_sdta(self, stage: int, index: int) -> bool:
        """Whether encoder ``index`` of ``stage`` is an SDTA encoder."""
        if self.sdta_first[stage]:
            return index < self.num_sdta[stage]
        return index >= self.depths[stage] - self.num_sdta[stage]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The four stages, encoder by encoder."""
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
            )
            for i in range(NUM_STAGES)
        )

    @property
    def name(self) -> str | None:
        """The variant's name, or None for an architecture of one's own."""
        return next((name for name, arch in ARCHS.items() if arch == self), None)

    def __str__(self) -> str:
        size = f'depths {self.depths}, dims {self.dims}, {self.norm}+{self.act}'
        return f'{self.name!r} ({size})' if self.name else f'of its own ({size})'


PER_STAGE = tuple(f.name for f in fields(Arch) if f.name not in ('norm', 'act'))

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

#: The variants of the paper; ``_bnhs`` are those with BatchNorm and Hard-Swish (Figure 3).
ARCHS: dict[str, Arch] = {
    **{name: Arch(**size) for name, size in _SIZES.items()},
    **{f'{name}_bnhs': Arch(**_SIZES[name], **_BNHS) for name in ('xxsmall', 'xsmall', 'small')},
}


def build_arch(arch: str | Mapping[str, Any] | Arch) -> Arch:
    """The architecture of a variant's name, or of a dict with :class:`Arch`'s fields.

    Args:
        arch: A name in :data:`ARCHS`, a dict that holds at least ``depths`` and ``dims``, or a
            dict with ``base`` (a name) and the fields that differ from it.

    Raises:
        UserError: If the name or a key is unknown, or a value does not fit.
    """
    if isinstance(arch, Arch):
        return arch
    if isinstance(arch, str):
        return _named(arch)
    if not isinstance(arch, Mapping):
        raise UserError(f'`arch` is a name or a dict, got {type(arch).__name__}: {arch!r}.')

    values = dict(arch)
    base = asdict(_named(values.pop('base'))) if 'base' in values else {}
    known = [f.name for f in fields(Arch)]
    unknown = sorted(set(values) - set(known))
    missing = sorted({'depths', 'dims'} - set(values) - set(base))
    if unknown or missing:
        problems = [f'unknown {unknown}'] * bool(unknown) + [f'missing {missing}'] * bool(missing)
        raise UserError(
            f'The keys of an EdgeNeXt arch dict do not fit: {", ".join(problems)}. It takes '
            f'`depths` and `dims`, or `base` (one of {", ".join(ARCHS)}), and any of '
            f'{", ".join(known[2:])}.'
        )
    return Arch(**{**base, **values})


def _named(name: str) -> Arch:
    if not isinstance(name, str) or name not in ARCHS:
        raise UserError(
            f'Unknown EdgeNeXt arch {name!r}. Choose one of {", ".join(ARCHS)}, or give a dict '
            "with at least `depths` and `dims`, e.g. dict(base='xxsmall', depths=(1, 1, 3, 1))."
        )
    return ARCHS[name]

"""The names of weights in each published format, and the way between any two of them.

Ours is a classifier: ``backbone.`` and the authors' name, and ``head.fc``. All functions are pure;
they rename, and leave tensors as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import UserError

#: Ours, the authors' (github.com/mmaaz60/EdgeNeXt), timm's ``edgenext_*``, mmpretrain's EdgeNeXt.
FORMATS = ('ours', 'official', 'timm', 'mmpretrain')

#: What each format renames in the authors' names: (there, the authors').
_NAMES: dict[str, tuple[tuple[str, str], ...]] = {
    'timm': (
        ('stem.', 'downsample_layers.0.'),
        ('stages.#.downsample.', 'downsample_layers.#.'),
        ('stages.#.blocks.#.', 'stages.#.#.'),
        ('.conv_dw.', '.dwconv.'),
        ('.mlp.fc#.', '.pwconv#.'),
        ('head.norm.', 'norm.'),
        ('head.fc.', 'head.'),
    ),
    'mmpretrain': (
        ('.depthwise_conv.', '.dwconv.'),
        ('.pointwise_conv#.', '.pwconv#.'),
        ('.conv_modules.', '.convs.'),
        ('.pos_embed.proj.', '.pos_embd.token_projection.'),
        ('.csa.scale', '.xca.temperature'),
        ('.csa.', '.xca.'),
        ('.gamma_csa', '.gamma_xca'),
        ('.norm_csa.', '.norm_xca.'),
        ('norm3.', 'norm.'),
        ('head.fc.', 'head.'),
    ),
    'ours': (('head.fc.', 'head.'),),
    'official': (),
}
#: Names that tell a format, first match first, after any ``backbone.``.
_MARKS = (
    ('timm', r'stages\.\d+\.blocks\.\d+\.mlp\.fc1\.weight'),
    ('mmpretrain', r'stages\.\d+\.\d+\.pointwise_conv1\.weight'),
    ('official', r'stages\.\d+\.\d+\.pwconv1\.weight'),
)


def recognise(names: Iterable[str]) -> str | None:
    """The format of names in a state dict; None where they are no EdgeNeXt's."""
    for name in names:
        for kind, mark in _MARKS:
            if re.fullmatch(rf'(backbone\.)?{mark}', name):
                return 'ours' if kind == 'official' and name.startswith('backbone.') else kind
    return None


def find_prefixes(names: Iterable[str]) -> list[str]:
    """What stands before the names of each EdgeNeXt in a state dict, of any format.

    The ``backbone.`` of our format and mmpretrain's is not counted.
    """
    marks = '|'.join(mark for _, mark in _MARKS)
    found = (re.fullmatch(rf'((?:.*?\.)??)(?:backbone\.)?(?:{marks})', name) for name in names)
    return list(dict.fromkeys(match[1] for match in found if match))


def rename(weights: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """Weights of one format under the names of another.

    Args:
        weights: Of a classifier, or its backbone alone.
        source: Their format, one of :data:`FORMATS`.
        target: The format wanted.

    Raises:
        UserError: If there is no such format.
    """
    for kind in (source, target):
        if kind not in FORMATS:
            raise UserError(f'Unknown format {kind!r}. Choose from {", ".join(FORMATS)}.')
    return {
        _from_official(_to_official(name, source), target): value for name, value in weights.items()
    }


def to_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of any format under our names; those of other models stay as they are."""
    source = recognise(weights)
    return dict(weights) if source in (None, 'ours') else rename(weights, source, 'ours')


def _to_official(name: str, source: str) -> str:
    name = name.removeprefix('backbone.')
    return _substitute(name, [(there, here) for there, here in _NAMES[source]])


def _from_official(name: str, target: str) -> str:
    is_head = name.startswith('head.')
    name = _substitute(name, [(here, there) for there, here in _NAMES[target]])
    return name if is_head or target in ('official', 'timm') else f'backbone.{name}'


def _substitute(name: str, pairs: list[tuple[str, str]]) -> str:
    """Replaces the first of the patterns that stand at the start, and each of those within."""
    at_start = False
    for old, new in pairs:
        within = old.startswith('.')
        if not within and at_start:
            continue
        pattern = re.escape(old).replace(r'\#', r'(\d+)')
        pattern = pattern if within else f'^{pattern}'
        numbers = iter(range(1, 9))
        replacement = re.sub('#', lambda _: rf'\{next(numbers)}', new)  # noqa: B023
        name, count = re.subn(pattern, replacement, name)
        at_start |= count > 0 and not within
    return name

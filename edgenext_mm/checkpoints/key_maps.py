"""Names of weights in the published formats of EdgeNeXt, and conversion between them.

Our format is that of a classifier: the original names after ``backbone.``, and ``head.fc``. All
functions are pure. They do not change tensors.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from ..errors import UserError

#: This package, the original code (github.com/mmaaz60/EdgeNeXt), timm and mmpretrain.
FORMATS = ('ours', 'official', 'timm', 'mmpretrain')

#: Differences from the original names: pairs of the part in the format and the original part.
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
#: Names by which a format is recognised, after an optional ``backbone.``; the first match counts.
_MARKS = (
    ('timm', r'stages\.\d+\.blocks\.\d+\.mlp\.fc1\.weight'),
    ('mmpretrain', r'stages\.\d+\.\d+\.pointwise_conv1\.weight'),
    ('official', r'stages\.\d+\.\d+\.pwconv1\.weight'),
)


def recognise(names: Iterable[str]) -> str | None:
    """Returns the format of the names of a state dict, or None if it is not an EdgeNeXt."""
    for name in names:
        for kind, mark in _MARKS:
            if re.fullmatch(rf'(backbone\.)?{mark}', name):
                return 'ours' if kind == 'official' and name.startswith('backbone.') else kind
    return None


def find_prefixes(names: Iterable[str]) -> list[str]:
    """Returns the prefixes of the EdgeNeXts in a state dict of any format.

    The ``backbone.`` of our format and mmpretrain's is not part of the prefix.
    """
    marks = '|'.join(mark for _, mark in _MARKS)
    found = (re.fullmatch(rf'((?:.*?\.)??)(?:backbone\.)?(?:{marks})', name) for name in names)
    return list(dict.fromkeys(match[1] for match in found if match))


def rename(weights: Mapping[str, Tensor], source: str, target: str) -> dict[str, Tensor]:
    """Renames weights from one format to another.

    Args:
        weights: State dict of a classifier, or of its backbone alone.
        source: Format of ``weights``, one of :data:`FORMATS`.
        target: Format of the result, one of :data:`FORMATS`.

    Raises:
        UserError: If a format is unknown.
    """
    for kind in (source, target):
        if kind not in FORMATS:
            raise UserError(f'Unknown format {kind!r}. Choose from {", ".join(FORMATS)}.')
    return {
        _from_official(_to_official(name, source), target): value for name, value in weights.items()
    }


def to_ours(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames weights of any format to ours. Weights of other models keep their names."""
    source = recognise(weights)
    return dict(weights) if source in (None, 'ours') else rename(weights, source, 'ours')


def _to_official(name: str, source: str) -> str:
    return _substitute(name.removeprefix('backbone.'), _NAMES[source])


def _from_official(name: str, target: str) -> str:
    is_head = name.startswith('head.')
    name = _substitute(name, [(original, new) for new, original in _NAMES[target]])
    return name if is_head or target in ('official', 'timm') else f'backbone.{name}'


def _substitute(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """Replaces parts of a name, where ``#`` stands for a number.

    Parts that begin with a dot are replaced anywhere. Of the others, which are replaced at the
    beginning of the name, only the first that matches is used.
    """
    replaced_beginning = False
    for old, new in pairs:
        anywhere = old.startswith('.')
        if replaced_beginning and not anywhere:
            continue
        pattern = re.escape(old).replace(r'\#', r'(\d+)')
        numbers = itertools.count(1)
        replacement = ''.join(rf'\{next(numbers)}' if c == '#' else c for c in new)
        name, count = re.subn(pattern if anywhere else f'^{pattern}', replacement, name)
        replaced_beginning |= count > 0 and not anywhere
    return name

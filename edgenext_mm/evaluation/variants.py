"""The table of variants in the documents."""

from __future__ import annotations

from ..models import ARCHS
from .complexity import count_complexity
from .models import EdgeNeXtClassifier
from .published import IMAGENET_TOP1


def variants_table(shape: tuple[int, int] = (256, 256)) -> str:
    """A Markdown table of the paper's variants: size, cost and published accuracy.

    Args:
        shape: (H, W) that multiply-adds are counted at.
    """
    rows = [
        f'| arch | depths | dims | norm, activation | parameters | MAdds at {shape[0]}x{shape[1]} '
        '| ImageNet-1K top-1, published |',
        '|---|---|---|---|---|---|---|',
    ]
    for name, arch in ARCHS.items():
        complexity = count_complexity(EdgeNeXtClassifier(name), shape)
        depths, dims = (' '.join(map(str, values)) for values in (arch.depths, arch.dims))
        rows.append(
            f'| `{name}` | {depths} | {dims} | {arch.norm}, {arch.act} | {complexity.params:,} '
            f'| {complexity.madds / 1e6:,.1f}M | {IMAGENET_TOP1[name]:.2f} |'
        )
    return '\n'.join(rows)

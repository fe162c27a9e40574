"""The table of variants in the documents."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import UserError
from ..files import replacing
from ..models import ARCHS
from .complexity import count_complexity
from .models import EdgeNeXtClassifier
from .published import IMAGENET_TOP1

COMMAND = 'python tools/analysis/variants_table.py --update FILE'
BEGIN, END = f'<!-- begin variants: {COMMAND} -->', '<!-- end variants -->'


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


def update_table(path: str | Path, table: str) -> None:
    """Puts the table between its marks in a document.

    Raises:
        UserError: If the document is not there or has no such marks.
    """
    path = Path(path)
    text = path.read_text() if path.is_file() else ''
    pattern = re.compile(f'({re.escape(BEGIN)}\n).*?({re.escape(END)})', re.DOTALL)
    if not pattern.search(text):
        raise UserError(f'{path} has no place for the table. It stands between {BEGIN} and {END}.')
    with replacing(path) as temporary:
        temporary.write_text(pattern.sub(rf'\g<1>\n{table}\n\n\g<2>', text))

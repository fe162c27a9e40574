"""Print the table of variants, or write it into documents.

Examples:
    python -m benchmarks.variants_table
    python -m benchmarks.variants_table --update README.md
"""

from __future__ import annotations

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.models import ARCHS

from .documents import markdown_table, update_table
from .models import EdgeNeXtClassifier
from .published import IMAGENET_TOP1


def variants_table() -> str:
    """Formats a Markdown table of the variants: size, cost and published accuracy."""
    head = ['arch', 'depths', 'dims', 'norm, activation', 'parameters', 'MAdds at 256x256']
    rows = []
    for name, arch in ARCHS.items():
        cost = count_complexity(EdgeNeXtClassifier(name), (256, 256))
        depths, dims = (' '.join(map(str, values)) for values in (arch.depths, arch.dims))
        rows.append(
            [f'`{name}`', depths, dims, f'{arch.norm}, {arch.act}', f'{cost.params:,}']
            + [
                f'{cost.madds / 1e6:,.1f}M',
                f'{IMAGENET_TOP1[name]:.2f}' if name in IMAGENET_TOP1 else '',
            ]
        )
    return markdown_table([*head, 'ImageNet-1K top-1, published'], rows)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--update', nargs='+', default=[], metavar='FILE', help='documents to write the table into'
    )
    args = parser.parse_args()
    table = variants_table()
    for path in args.update:
        update_table(path, 'variants', table)
    if not args.update:
        print(table)


if __name__ == '__main__':
    main()

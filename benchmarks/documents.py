"""Markdown tables, and their places in documents: between two marks that name the command."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Formats a Markdown table.

    Args:
        head: Names of the columns.
        rows: Cells of each row.
    """
    first, *others = [f'| {" | ".join(map(str, cells))} |' for cells in (head, *rows)]
    return '\n'.join([first, '|' + '---|' * len(head), *others])


def find_table(path: str | Path, name: str) -> str:
    """Reads the table between its marks in a document.

    Raises:
        UserError: If the document does not exist or has no such marks.
    """
    return _match(Path(path), name)[2].strip()


def update_table(path: str | Path, name: str, table: str) -> None:
    """Writes a table between its marks in a document.

    Args:
        path: A Markdown file with ``<!-- begin NAME ... -->`` and ``<!-- end NAME -->``.
        name: Name of the table in the marks.
        table: The new table in Markdown.

    Raises:
        UserError: If the document does not exist or has no such marks.
    """
    path = Path(path)
    match = _match(path, name)
    text = match.string
    with replacing(path) as temporary:
        temporary.write_text(f'{text[: match.start(2)]}\n{table}\n\n{text[match.end(2) :]}')


def _match(path: Path, name: str) -> re.Match[str]:
    text = path.read_text() if path.is_file() else ''
    marks = rf'(<!-- begin {name}(?![\w-])[^\n]*-->\n)(.*?)<!-- end {name} -->'
    match = re.search(marks, text, re.DOTALL)
    if match is None:
        raise UserError(
            f'{path} has no marks for the table {name!r}. Add two lines, '
            f'<!-- begin {name} --> and <!-- end {name} -->.'
        )
    return match

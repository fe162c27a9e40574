"""Generated tables in documents, each between two marks that name its command."""

from __future__ import annotations

import re
from pathlib import Path

from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing


def find_table(path: str | Path, name: str) -> str:
    """The table that stands between its marks in a document.

    Raises:
        UserError: If the document is not there or has no such marks.
    """
    return _match(Path(path), name)[2].strip()


def update_table(path: str | Path, name: str, table: str) -> None:
    """Puts a table between its marks in a document.

    Args:
        path: A Markdown file with ``<!-- begin NAME ... -->`` and ``<!-- end NAME -->``.
        name: What the marks call the table.
        table: Markdown.

    Raises:
        UserError: If the document is not there or has no such marks.
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
            f'{path} has no place for the table {name!r}. It stands between '
            f'<!-- begin {name} --> and <!-- end {name} -->.'
        )
    return match

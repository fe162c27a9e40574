"""The tables of documents that come from the metafiles."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from .published import DENSE


def zoo_table(folders: list[Path]) -> str:
    """A Markdown table of all models, for a document in ``docs``.

    Args:
        folders: Of configs, each with its metafile.
    """
    rows = [
        '| model | parameters | MAdds | input | published | weights |',
        '|---|---|---|---|---|---|',
    ]
    for model in (model for folder in folders for model in _models(folder)):
        results = model.get('Results', [])
        published = ', '.join(f'{v} {k}' for r in results for k, v in r['Metrics'].items())
        sources = [model.get('Weights'), *model.get('Mirrors', ())]
        links = [f'[{urlsplit(url).netloc}]({url})' for url in sources if url]
        rows.append(
            f'| [{model["Name"]}](../{model["Config"]}) {_cost(model)} | {published} '
            f'| {", ".join(links) or "none yet"} |'
        )
    return '\n'.join(rows)


def complexity_table(folder: Path) -> str:
    """A Markdown table of a folder's configs but those of the digits, for its README.

    Args:
        folder: Of configs, with its metafile.
    """
    rows = ['| config | parameters | MAdds | input | published |', '|---|---|---|---|---|']
    for model in _models(folder):
        path = Path(model['Config'])
        if not path.stem.endswith('_digits'):
            published = DENSE.get(path.stem, '')
            rows.append(f'| [{path.stem}]({path.name}) {_cost(model)} | {published} |')
    return '\n'.join(rows)


def _models(folder: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((folder / 'metafile.yml').read_text())['Models']


def _cost(model: dict[str, Any]) -> str:
    cost = model['Metadata']
    return f'| {cost["Parameters"] / 1e6:.2f}M | {cost["FLOPs"] / 1e9:.2f}G | {cost["Input"]}'

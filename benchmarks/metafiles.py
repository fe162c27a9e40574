"""Write the metafiles beside the configs, which the model zoo and mim read, and tables of them.

Example:
    python -m benchmarks.metafiles
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml
from tqdm import tqdm

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.checkpoints.zoo import TASKS
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.files import replacing
from edgenext_mm.models.building import build_model

from .documents import update_table
from .published import (
    AUTHORS_FILES,
    DENSE,
    METRICS,
    MMPRETRAIN_FILES,
    RELEASES,
    TABLES,
    TOP1,
    Release,
)

ROOT = Path(__file__).resolve().parents[1]
TASK_NAMES = {
    'classification': 'Image Classification',
    'detection': 'Object Detection',
    'segmentation': 'Semantic Segmentation',
    'rotated_detection': 'Rotated Object Detection',
}
TRAINING_DATA = {
    'in1k': 'ImageNet-1k',
    'in21k-p': 'ImageNet-21K-P',
    'digits': 'digits',
    'coco': 'COCO',
    'dota': 'DOTA-v1.0',
    'voc12aug': 'VOC 2012 with SBD',
}
COLLECTIONS = {
    'classification': 'EdgeNeXt',
    'detection': 'EdgeNeXt detectors',
    'segmentation': 'EdgeNeXt segmentors',
    'rotated_detection': 'EdgeNeXt rotated detectors',
}
PAPER = 'https://arxiv.org/abs/2206.10589'
#: Who published the results that :data:`~benchmarks.published.TABLES` has of a task.
SOURCES = dict.fromkeys(TASK_NAMES, PAPER) | {
    'rotated_detection': 'https://github.com/Xuyihaoby/rotate_detection'
}
HEADER = '# Written by `python -m benchmarks.metafiles`; edits are lost.\n'


def metafile(folder: Path) -> str:
    """The metafile of a folder of configs.

    Args:
        folder: Of the configs of one task, ``configs/TASK``.
    """
    paths = sorted(folder.rglob('*.py'), key=lambda path: (path.parent != folder, path))
    models = [describe(path, folder) for path in paths]
    collection = dict(
        Name=COLLECTIONS[folder.name],
        Metadata=dict(Architecture=['SDTA', 'Depth-wise Convolution']),
        Paper=dict(
            URL=PAPER,
            Title='EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile '
            'Vision Applications',
        ),
        README=f'configs/{folder.name}/README.md',
    )
    content = dict(Collections=[collection], Models=models)
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=100)


def describe(path: Path, folder: Path) -> dict[str, Any]:
    """The entry of one config.

    Args:
        path: Of the config.
        folder: The task's, in which it is.
    """
    release = RELEASES.get(path.stem)
    published = _release(release) if release else _results(path.stem, folder.name)
    return {**_common(path, folder), **published}


def _release(release: Release) -> dict[str, Any]:
    """What others published, with weights."""
    return {
        'Name': release.name,
        'Results': [_result('classification', TOP1, release.top1)],
        'Weights': AUTHORS_FILES + release.file,
        **({'Mirrors': [MMPRETRAIN_FILES + release.mirror]} if release.mirror else {}),
        'Converted From': {'Code': 'https://github.com/mmaaz60/EdgeNeXt'},
    }


def _results(config: str, task: str) -> dict[str, Any]:
    """What others published of a config's model, without weights."""
    results = [
        _result(task, table.metric, float(row.accuracy))
        for table in TABLES.values()
        for row in table.rows
        if row.model == config and row.accuracy and not row.options
    ]
    return {'Results': results[:1], 'Results Of': SOURCES[task]} if results else {}


def _result(task: str, metric: str, value: float) -> dict[str, Any]:
    return dict(Dataset=METRICS[metric], Task=TASK_NAMES[task], Metrics={metric: value})


def _common(path: Path, folder: Path) -> dict[str, Any]:
    config = load_config(path)
    cost = count_complexity(build_model(config), input_shape(config), openmmlab=True)
    data = next((v for k, v in TRAINING_DATA.items() if k in path.stem), "of one's own")
    return {
        'Name': path.stem,
        'In Collection': COLLECTIONS[folder.name],
        'Metadata': {
            'Training Data': data,
            'Task': TASK_NAMES[folder.name],
            'Parameters': cost.params,
            'FLOPs': cost.madds,
            'Input': 'x'.join(map(str, cost.shape)),
        },
        'Config': f'configs/{path.relative_to(folder.parent)}',
    }


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


@reports_errors
def main() -> None:
    make_parser(__doc__).parse_args()
    folders = [ROOT / 'configs' / task for task in TASKS]
    for folder in tqdm(folders, desc='metafiles'):
        with replacing(folder / 'metafile.yml') as temporary:
            temporary.write_text(metafile(folder))
    for folder in folders[1:]:
        update_table(folder / 'README.md', 'complexity', complexity_table(folder))
    update_table(ROOT / 'docs' / 'model_zoo.md', 'zoo', zoo_table(folders))


if __name__ == '__main__':
    main()

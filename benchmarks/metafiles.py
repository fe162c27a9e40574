"""Write the metafiles of the configs, which the model zoo and mim read, and tables of them.

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

from .documents import markdown_table, update_table
from .published import DENSE, METRICS, MMPRETRAIN_FILES, RELEASES, TABLES, TOP1, Release

ROOT = Path(__file__).resolve().parents[1]
#: For each task, its name in metafiles, and the name of our collection.
NAMES = {
    'classification': ('Image Classification', 'EdgeNeXt'),
    'detection': ('Object Detection', 'EdgeNeXt detectors'),
    'segmentation': ('Semantic Segmentation', 'EdgeNeXt segmentors'),
    'rotated_detection': ('Rotated Object Detection', 'EdgeNeXt rotated detectors'),
}
#: Training data, by a part of a config's name.
TRAINING_DATA = {
    'in1k': 'ImageNet-1k',
    'in21k-p': 'ImageNet-21K-P',
    'digits': 'digits',
    'coco': 'COCO',
    'dota': 'DOTA-v1.0',
    'voc12aug': 'VOC 2012 with SBD',
}
PAPER = 'https://arxiv.org/abs/2206.10589'
AUTHORS = 'https://github.com/mmaaz60/EdgeNeXt'
TIMM = 'https://github.com/huggingface/pytorch-image-models'
#: Who published the results of a task in :data:`~benchmarks.published.TABLES`.
SOURCES = dict.fromkeys(TASKS, PAPER) | {
    'rotated_detection': 'https://github.com/Xuyihaoby/rotate_detection'
}
HEADER = '# Written by `python -m benchmarks.metafiles`; edits are lost.\n'


def metafile(folder: Path) -> str:
    """Formats the metafile of a folder of configs.

    Args:
        folder: The configs of one task, ``configs/TASK``.
    """
    # The classes of custom configs are those of the data.
    configs = (path for path in folder.rglob('*.py') if not path.stem.endswith('_custom'))
    paths = sorted(configs, key=lambda path: (path.parent != folder, path))
    collection = dict(
        Name=NAMES[folder.name][1],
        Metadata=dict(Architecture=['SDTA', 'Depth-wise Convolution']),
        Paper=dict(
            URL=PAPER,
            Title='EdgeNeXt: Efficiently Amalgamated CNN-Transformer Architecture for Mobile '
            'Vision Applications',
        ),
        README=f'configs/{folder.name}/README.md',
    )
    content = dict(Collections=[collection], Models=[describe(path, folder) for path in paths])
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=100)


def describe(path: Path, folder: Path) -> dict[str, Any]:
    """Describes a config as an entry of a metafile.

    Args:
        path: The config.
        folder: The folder of its task.
    """
    config, (task, collection) = load_config(path), NAMES[folder.name]
    cost = count_complexity(build_model(config), input_shape(config), openmmlab=True)
    data = next((v for k, v in TRAINING_DATA.items() if k in path.stem), "of one's own")
    entry: dict[str, Any] = {
        'Name': path.stem,
        'In Collection': collection,
        'Metadata': {
            'Training Data': data,
            'Task': task,
            'Parameters': cost.params,
            'FLOPs': cost.madds,
            'Input': 'x'.join(map(str, cost.shape)),
        },
        'Config': f'configs/{path.relative_to(folder.parent)}',
    }

    if release := RELEASES.get(path.stem):
        return entry | _released(release, task)
    for table in TABLES.values():
        for row in table.rows:
            if row.model == path.stem and row.accuracy and not row.options:
                entry['Results'] = [_result(table.metric, float(row.accuracy), task)]
                entry['Results Of'] = SOURCES[folder.name]
                return entry
    return entry


def _released(release: Release, task: str) -> dict[str, Any]:
    """Returns the entries of a metafile about published weights."""
    results = []
    if release.top1 is not None:
        results.append(_result(TOP1, release.top1, task))
    if release.hub:
        size = f'{release.hub.test_size}x{release.hub.test_size}'
        results.append(_result(TOP1, release.hub.top1, task) | {'Input': size, 'Measured By': TIMM})
    return {
        'Name': release.name,
        'Results': results,
        'Weights': release.sources[0]['URL'],
        'Sources': release.sources,
        'Converted From': {'Code': AUTHORS if release.file else TIMM},
    }


def _result(metric: str, value: float, task: str) -> dict[str, Any]:
    return dict(Dataset=METRICS[metric], Task=task, Metrics={metric: value})


def zoo_table(folders: list[Path]) -> str:
    """Formats a Markdown table of all models, for a document in ``docs``.

    Args:
        folders: Folders of configs, each with its metafile.
    """
    rows = []
    for model in (model for folder in folders for model in _models(folder)):
        results = model.get('Results', [])
        links = [_link(source['URL']) for source in model.get('Sources', ())]
        figures = [
            f'{value} {metric}' + (f' at {r["Input"]}' if 'Input' in r else '')
            for r in results
            for metric, value in r['Metrics'].items()
        ]
        rows.append(
            [f'[{model["Name"]}](../{model["Config"]})', *_cost(model)]
            + [', '.join(figures), ', '.join(links) or 'none yet']
        )
    return markdown_table(['model', *COST, 'published', 'weights'], rows)


def files_table(folder: Path) -> str:
    """Formats a Markdown table of the published files, and what is known about them.

    Args:
        folder: A folder of configs with its metafile.
    """
    rows = []
    for model in _models(folder):
        for source in model.get('Sources', ()):
            *_, version, name = source['URL'].split('/')
            version = '' if source['URL'].startswith(MMPRETRAIN_FILES) else version[:10]
            digest = source.get('SHA256', 'unknown')
            digest = f'`{digest[:8]}`' if digest != 'unknown' else digest
            link = f'{_link(source["URL"], name)} ({urlsplit(source["URL"]).netloc})'
            rows.append([model['Name'], link, version, source.get('Size', 'unknown'), digest])
    return markdown_table(
        ['model', 'file', 'release or commit', 'size', 'SHA-256 starts with'], rows
    )


def _link(url: str, text: str | None = None) -> str:
    return f'[{text or urlsplit(url).netloc}]({url})'


def complexity_table(folder: Path) -> str:
    """Formats a Markdown table of a folder's configs, for its README.

    Args:
        folder: A folder of configs with its metafile. Configs of the digits are left out.
    """
    rows = [
        [f'[{path.stem}]({path.name})', *_cost(model), DENSE.get(path.stem, '')]
        for model in _models(folder)
        if not (path := Path(model['Config'])).stem.endswith('_digits')
    ]
    return markdown_table(['config', *COST, 'published'], rows)


def _models(folder: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((folder / 'metafile.yml').read_text())['Models']


COST = ['parameters', 'MAdds', 'input']


def _cost(model: dict[str, Any]) -> list[str]:
    cost = model['Metadata']
    return [f'{cost["Parameters"] / 1e6:.2f}M', f'{cost["FLOPs"] / 1e9:.2f}G', cost['Input']]


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
    update_table(ROOT / 'docs' / 'model_zoo.md', 'files', files_table(folders[0]))


if __name__ == '__main__':
    main()

"""The metafiles beside the configs, in OpenMMLab's format, from the configs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..apis.cli import load_config
from ..apis.model import build_model, input_shape
from .complexity import count_complexity
from .published import AUTHORS_FILES, METRICS, MMPRETRAIN_FILES, RELEASES, TABLES, TOP1, Release

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
#: Who published the results that :data:`~edgenext_mm.evaluation.published.TABLES` has of a task.
SOURCES = dict.fromkeys(TASK_NAMES, PAPER) | {
    'rotated_detection': 'https://github.com/Xuyihaoby/rotate_detection'
}
HEADER = '# Written by `python tools/analysis/metafiles.py`; edits are lost.\n'


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

"""Model cards, written from the config, the checkpoint and the logs of a training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..checkpoints.hub import PREFIX, import_hub
from ..datasets.image_pipeline import input_shape
from ..engine.run_report import Run
from ..errors import UserError
from ..version import __version__
from .complexity import count_complexity

_PIPELINES = {
    'mmpretrain': 'image-classification',
    'mmdet': 'object-detection',
    'mmseg': 'image-segmentation',
    'mmrotate': 'object-detection',
}
_PAPER = 'https://arxiv.org/abs/2206.10589'
_UNKNOWN = 'not recorded'
#: Logged values that are no metrics.
_TIMES = ('time', 'data_time', 'step', 'epoch', 'iter', 'memory', 'lr', 'base_lr')


def model_card(
    model: nn.Module,
    checkpoint: Mapping[str, Any],
    path: Path,
    repo_id: str,
    license: str | None = None,
) -> str:
    """Writes the card of a trained model, in Markdown with the metadata of the hub.

    Args:
        model: The model, from :func:`~edgenext_mm.load_model`.
        checkpoint: The content of its checkpoint.
        path: Path of the checkpoint. Metrics are read from the logs in the same folder.
        repo_id: ``OWNER/NAME`` on the hub.
        license: Licence of the weights. Default: none was stated.
    """
    hub = import_hub()
    meta = checkpoint.get('meta') or {}
    metrics = logged_metrics(path.parent, meta)
    task = _PIPELINES.get(model.cfg.get('default_scope', ''), 'image-feature-extraction')
    data = _data(model)
    results = [
        hub.EvalResult(
            task_type=task,
            dataset_type=re.sub(r'[^\w.-]+', '-', data).lower(),
            dataset_name=data,
            dataset_split='validation',
            metric_type=name,
            metric_value=value,
        )
        for name, value in metrics.items()
    ]
    card_data = hub.ModelCardData(
        license=license,
        library_name='edgenext_mm',
        pipeline_tag=task,
        tags=['edgenext', 'edgenext_mm', f'arxiv:{_PAPER.rpartition("/")[2]}'],
        model_name=repo_id.rpartition('/')[2] if results else None,
        eval_results=results or None,
    )
    classes = model.dataset_meta.get('classes')
    sections = [
        f'# {repo_id.rpartition("/")[2]}',
        f'A model with the [EdgeNeXt]({_PAPER}) backbone, trained and uploaded with edgenext_mm '
        f'{__version__}.',
        '## Model\n\n' + _listing(_facts(model)),
        '## Training\n\n' + _listing({'Data': data, **_training(meta)}),
        '## Results\n\n'
        + (
            _listing({f'`{name}`': f'{value:.4g}' for name, value in metrics.items()})
            + '\n\nOn the validation data, at the time of this checkpoint, from the logs.'
            if metrics
            else 'No logs with metrics were found beside the checkpoint.'
        ),
        '## Use\n\n' + _usage(repo_id),
        '## Limits\n\n' + _limits(classes),
        '## Licence\n\n'
        + (f'{license}.' if license else 'None was stated. Ask the owner before you use it.'),
    ]
    return f'---\n{card_data.to_yaml()}\n---\n\n' + '\n\n'.join(sections) + '\n'


def logged_metrics(folder: Path, meta: Mapping[str, Any]) -> dict[str, float]:
    """Returns the metrics that the runs in a work folder logged for a checkpoint.

    Args:
        folder: The work folder.
        meta: ``meta`` of the checkpoint, with its epoch and iteration.
    """
    entries = [
        entry
        for log in sorted(folder.glob('[0-9]*_[0-9]*'), reverse=True)
        for entry in reversed(Run(log).logged)
        if 'loss' not in entry
    ]
    # Metrics are logged by epoch, or by iteration if the training has no epochs.
    for step in (meta.get('epoch'), meta.get('iter')):
        for entry in entries:
            metrics = {
                name: float(value)
                for name, value in entry.items()
                if isinstance(value, (int, float)) and name not in _TIMES
            }
            if metrics and step is not None and entry.get('step') == step:
                return metrics
    return {}


def _facts(model: nn.Module) -> dict[str, Any]:
    backbone = getattr(model, 'backbone', None)
    facts: dict[str, Any] = {'Type': type(model).__name__}
    if arch := getattr(backbone, 'arch', None):
        facts['Backbone'] = f'EdgeNeXt {arch}'
    if head := _head_type(model):
        facts['Head'] = head
    try:
        shape = input_shape(model.cfg)
        cost = count_complexity(model, shape, openmmlab=True)
        facts['Parameters'] = f'{cost.params:,}'
        facts['Multiply-adds'] = f'{cost.madds / 1e6:,.1f}M at {shape[0]}x{shape[1]}'
    except UserError:  # no fixed size, or fvcore is not installed
        facts['Parameters'] = f'{sum(p.numel() for p in model.parameters()):,}'
    return facts


def _head_type(model: nn.Module) -> str | None:
    settings = model.cfg.model
    head = next((settings[k] for k in ('head', 'bbox_head', 'decode_head') if k in settings), None)
    return str(head['type']) if isinstance(head, Mapping) and 'type' in head else None


def _data(model: nn.Module) -> str:
    """The class of the data set, and the last part of its folder: paths are private."""
    dataset = model.cfg.test_dataloader.dataset
    kind = str(dataset.get('type', 'unknown')).rpartition('.')[2]
    folder = Path(str(dataset.get('data_root') or '')).name
    return f'{kind} {folder}'.strip()


def _training(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {
        'Epochs': meta.get('epoch', _UNKNOWN),
        'Iterations': meta.get('iter', _UNKNOWN),
        'Seed': meta.get('seed', _UNKNOWN),
        'Date': meta.get('time', _UNKNOWN),
    }


def _usage(repo_id: str) -> str:
    return (
        '```python\n'
        '# pip install edgenext_mm[hub]\n'
        'from edgenext_mm import inference_model\n\n'
        f"result = inference_model('{PREFIX}{repo_id}', 'image.jpg')\n"
        '```\n\n'
        f'As a start for other trainings: `load_from = {PREFIX + repo_id!r}`.'
    )


def _limits(classes: Sequence[str] | None) -> str:
    lines = [
        '- The results are those on the data above. On images of another kind, such as other '
        'cameras, light or sizes, they can be much worse.',
    ]
    if classes:
        names = ', '.join(map(str, classes[:20])) + ', ...' * (len(classes) > 20)
        lines.append(f'- It knows {len(classes)} classes and predicts no others: {names}.')
    return '\n'.join(lines)


def _listing(facts: Mapping[str, Any]) -> str:
    return '\n'.join(f'- {name}: {value}' for name, value in facts.items())

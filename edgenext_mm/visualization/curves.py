"""Training curves, from the log that mmengine writes."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import UserError
from .figure import new_figure, save

NOT_METRICS = {'data_time', 'time', 'step', 'epoch', 'iter', 'memory', 'lr', 'base_lr'}


def plot_curves(work_dir: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Draws loss, learning rate and validation metrics of a training, with its resumed parts.

    Args:
        work_dir: Work folder of the training, with ``*/vis_data/scalars.json``.
        path: PNG, SVG or PDF file to write.

    Raises:
        UserError: If the folder holds no training log.
    """
    records = _read_logs(Path(work_dir))
    train = [r for r in records if 'loss' in r]
    # Validation records count epochs, or iterations if the training does.
    epoch_ends = {r['epoch']: r['iter'] for r in train if 'epoch' in r}
    val = [r for r in records if 'loss' not in r and 'step' in r]
    if not train:
        raise UserError(
            f'{work_dir} holds no training log (*/vis_data/scalars.json with a loss). Give the '
            'work folder of a training with tools/train.py.'
        )

    names = {k for r in val for k in r} - NOT_METRICS
    # mmseg's parts of the loss have the name of the head in front.
    metrics = sorted(name for name in names if 'val_loss' not in name)
    figure = new_figure(4.5 * (2 + bool(metrics)), 3.4)
    figure.suptitle(Path(work_dir).name)
    axes = iter(figure.subplots(1, 2 + bool(metrics)))

    axis = next(axes)
    for name in sorted(k for k in train[0] if k.startswith('loss')):
        axis.plot([r['step'] for r in train], [r.get(name) for r in train], label=name)
    if 'val_loss' in names:
        points = [(epoch_ends.get(r['step'], r['step']), r['val_loss']) for r in val]
        axis.plot(*zip(*points, strict=True), marker='.', label='validation loss')
    axis.set(title='loss', xlabel='iteration')
    axis.legend()

    if metrics:
        axis = next(axes)
        for name in metrics:
            points = [(epoch_ends.get(r['step'], r['step']), r[name]) for r in val if name in r]
            best = max(value for _, value in points)
            axis.plot(*zip(*points, strict=True), marker='.', label=f'{name} (best {best:.4g})')
        axis.set(title='validation', xlabel='iteration')
        axis.legend()

    axis = next(axes)
    axis.plot([r['step'] for r in train], [r['lr'] for r in train])
    axis.set(title='learning rate', xlabel='iteration')
    for axis in figure.axes:
        axis.grid(alpha=0.3)
    save(figure, path)


def _read_logs(work_dir: Path) -> list[dict]:
    """Returns the records of the latest run and of the runs that it resumed."""
    records: list[dict] = []
    for log in sorted(work_dir.glob('*/vis_data/scalars.json')):
        run = [json.loads(line) for line in log.read_text().splitlines()]
        start = next((r['step'] for r in run if 'loss' in r), None)
        if start is None:  # resumed after the last iteration
            continue
        earlier = [r for r in records if r.get('iter', 0) < start]
        resumed = any('loss' in r for r in earlier)
        records = (earlier if resumed else []) + run
    return records


def plot_lr_finder(
    rates: Sequence[float],
    losses: Sequence[float],
    suggestion: float | None,
    path: str | os.PathLike[str],
) -> None:
    """Draws the loss over the learning rate of a range test.

    Args:
        rates: Learning rates, increasing.
        losses: Smoothed training losses.
        suggestion: The rate to mark, if any.
        path: PNG, SVG or PDF file to write.
    """
    figure = new_figure(5.5, 3.6)
    axis = figure.subplots()
    axis.plot(rates, losses)
    if suggestion is not None:
        label = f'suggestion {suggestion:g}'
        axis.axvline(suggestion, color='tab:green', linestyle='--', label=label)
        axis.legend()
    axis.set(xscale='log', xlabel='learning rate', ylabel='smoothed training loss')
    axis.grid(alpha=0.3)
    save(figure, path)

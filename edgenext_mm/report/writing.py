"""Writes the report on a trained model."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from torch import nn

from ..apis.complexity import count_complexity
from ..apis.testing import run_test
from ..datasets.image_pipeline import input_shape
from ..datasets.palette import ignored_value
from ..deployment.exported_model import ExportedModel
from ..errors import UserError
from ..files import replacing
from ..registry import type_name
from ..version import __version__
from .analysis import analyse, worst_images
from .page import render
from .pictures import Pictures, picture_of_curves
from .predictions import Collected, Collector


def write_report(
    config: Config,
    model: nn.Module,
    out: str | Path,
    *,
    source: str | Path,
    work_dir: str | Path | None = None,
    num_images: int = 12,
    command: str = '',
) -> dict[str, Any]:
    """Tests a model and writes ``report.html`` and ``report.json``.

    Args:
        config: A complete config with test data and a ``work_dir``; it is changed.
        model: The model, or an exported file as :class:`ExportedModel`.
        out: Folder to write to; it is created.
        source: The checkpoint or exported file, for the record.
        work_dir: Work folder of the training, for its curves. Default: None.
        num_images: Number of pictures of the worst images. Default: 12.
        command: The command that made the report, for the record. Default: none.

    Returns:
        The content of ``report.json``.

    Raises:
        UserError: If an argument cannot be used, the test data have no annotations, or the model is
            of an unsupported kind.
    """
    out = Path(out)
    _check_arguments(out, num_images)
    classes = tuple(model.dataset_meta.get('classes') or ())
    collected = Collected()
    collector = Collector(
        collected,
        num_classes=len(classes) or _count_classes(model),
        ignore_index=ignored_value(config),
        resized_truth=_loads_before_resizing(config),
    )
    metrics = run_test(config, model, [collector])
    if not collected.images:
        raise UserError('The test data of this config have no image.')
    if not classes:
        classes = tuple(map(str, range(collector.num_classes)))
    numbers = analyse(collected, classes)
    numbers['metrics'] = metrics
    numbers['task'] = collected.task
    numbers['images'] = len(collected.images)
    numbers['facts'] = _facts(config, model, source, command)
    threshold = (numbers.get('threshold') or {}).get('value')
    worst = worst_images(collected, threshold, num_images)
    numbers['worst images'] = [dict(image=path, score=score) for score, path in worst]
    pictures = Pictures(config, model, collected, classes, threshold)
    numbers['facts']['latency'] = _latency(model, pictures.pipeline(collected.images[0].path))
    images = [shown for score, path in worst if (shown := pictures.of(path, score))]
    page = render(numbers, images, picture_of_curves(work_dir), source)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / 'report.json') as temporary:
        temporary.write_text(json.dumps(plain(numbers), indent=1))
    with replacing(out / 'report.html') as temporary:
        temporary.write_text(page, encoding='utf-8')
    return numbers


def _check_arguments(out: Path, num_images: int) -> None:
    """Finds what would fail after the test."""
    if num_images < 0:
        raise UserError(f'The number of worst images must be 0 or more, got {num_images}.')
    existing = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UserError(
            f'The report cannot be written to {out}: {existing} is not a folder that you may write '
            'to. Choose another --out.'
        )


def plain(value: Any) -> Any:
    """Converts numbers of numpy to JSON's, and NaN to None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _count_classes(model: nn.Module) -> int:
    for head in ('decode_head', 'bbox_head', 'head'):
        number = getattr(getattr(getattr(model, 'shell', model), head, None), 'num_classes', None)
        if isinstance(number, int):
            return number
    raise UserError('The classes are unknown: neither the checkpoint nor the data set names them.')


def _loads_before_resizing(config: Config) -> bool:
    names = [type_name(step['type']) for step in config.test_dataloader.dataset.pipeline]
    resizing = [i for i, name in enumerate(names) if 'Resize' in name]
    loading = [i for i, name in enumerate(names) if name == 'LoadAnnotations']
    return bool(resizing and loading) and loading[0] < resizing[0]


# What was measured.


def _facts(config: Config, model: nn.Module, source: str | Path, command: str) -> dict[str, str]:
    facts = {}
    path = Path(source)
    if path.is_file():
        content = path.read_bytes()
        facts['file'] = f'{path}, {len(content) / 1e6:.2f} MB'
        facts['sha256'] = hashlib.sha256(content).hexdigest()
    if config.filename:
        facts['config'] = str(config.filename)
    dataset = config.test_dataloader.dataset
    facts['data'] = str(dataset.get('data_root') or dataset.get('type'))
    with suppress(Exception):  # models differ in what can be counted
        shape = input_shape(model.cfg)
        if not isinstance(model, ExportedModel):
            cost = count_complexity(model, shape, _channels(model), openmmlab=True)
            facts['parameters'] = f'{cost.params / 1e6:.2f}M'
            facts['multiply-adds'] = f'{cost.madds / 1e9:.3f}G at {shape[1]}x{shape[0]}'
    facts['versions'] = f'edgenext_mm {__version__}, torch {torch.__version__}'
    facts['date'] = datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')
    if command:
        facts['command'] = command
    return facts


def _channels(model: nn.Module) -> int:
    return next(m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d))


def _latency(model: nn.Module, item: dict[str, Any]) -> str:
    """Median time of one image on this machine, from preprocessed pixels to the result."""
    parameter = next(model.parameters(), None)
    device = torch.device('cpu') if parameter is None else parameter.device
    times: list[float] = []
    stop = time.perf_counter() + 10
    while len(times) < 23 and (len(times) < 4 or time.perf_counter() < stop):
        start = time.perf_counter()
        with torch.inference_mode():
            model.test_step(pseudo_collate([item]))
        if device.type == 'cuda':
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    if device.type == 'cuda':
        machine = torch.cuda.get_device_name(device)
    else:
        machine = f'{_processor()}, threads: {torch.get_num_threads()}'
    size = 'x'.join(map(str, reversed(item['inputs'].shape[1:])))
    return (
        f'{statistics.median(times[3:]) * 1e3:.1f} ms for an input of {size} (median of '
        f'{len(times) - 3} runs, batch size 1, {machine}, without reading and resizing)'
    )


def _processor() -> str:
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return names[0] if names else platform.processor() or platform.machine()

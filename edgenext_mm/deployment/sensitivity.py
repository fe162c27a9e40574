"""What INT8 costs by kind of operator, in ONNX files."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch

from ..runtime.sessions.onnx import OnnxSession
from .content import Content
from .exporter import quiet
from .int8 import KINDS
from .onnx_files import build, quantize


class Cost(NamedTuple):
    """The cost of INT8 for one kind of operator.

    Args:
        kind: A key of :data:`~edgenext_mm.deployment.int8.KINDS`; ``none`` for the file
            without INT8, ``all`` for the file with all kinds in INT8.
        operators: Number of operators in INT8.
        size: Size of the file in bytes.
        deviation: Root of the mean square of the differences of outputs from those of the file
            without INT8, relative to that of the outputs.
        time: Median time for an image, relative to that of the file without INT8, run in turns.
        metrics: What ``evaluate`` returned for the file.
    """

    kind: str
    operators: int
    size: int
    deviation: float
    time: float
    metrics: dict[str, float]


def measure_sensitivity(
    content: Content,
    images: Sequence[torch.Tensor],
    evaluate: Callable[[Path], dict[str, float]] | None = None,
    threads: int | None = None,
) -> Iterator[Cost]:
    """Yields the cost of INT8 for each kind of operator alone, and for all.

    Args:
        content: What a file shall hold, with precision ``int8``; see
            :func:`~edgenext_mm.deployment.exporter.prepare`.
        images: Inputs for the comparison.
        evaluate: Measures a file. Default: nothing is measured.
        threads: Number of CPU threads. Default: the choice of ONNX Runtime.
    """
    with tempfile.TemporaryDirectory() as folder:
        with quiet():
            graph, expected = build(content), None
        sessions: dict[str, OnnxSession] = {}
        for kind in ('none', *KINDS, 'all'):
            path = Path(folder, f'{kind}.onnx')
            onnx.save(graph, path)
            count = 0
            if kind != 'none':
                others = () if kind == 'all' else tuple(k for k in KINDS if k != kind)
                settings = content.int8._replace(keep_float=others)
                with quiet():
                    count = quantize(path, content.calibration, settings)
                if not count:
                    continue
            session = sessions[kind] = OnnxSession(path, threads)
            outputs = [
                np.concatenate([part.ravel().astype(float) for part in session(image.numpy())])
                for image in images
            ]
            expected = expected or outputs
            pairs = list(zip(outputs, expected, strict=True))
            error = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
            whole = sum(float((b**2).sum()) for _, b in pairs)
            times = _interleaved(sessions['none'], session, images[0].numpy())
            metrics = evaluate(path) if evaluate else {}
            deviation = (error / max(whole, 1e-30)) ** 0.5
            yield Cost(kind, count, path.stat().st_size, deviation, times[1] / times[0], metrics)


def _interleaved(
    first: OnnxSession, second: OnnxSession, image: np.ndarray, rounds: int = 15
) -> tuple[float, float]:
    """Returns the median seconds of two files, run in turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 2):
        for session, times in zip((first, second), found, strict=True):
            start = time.perf_counter()
            session(image)
            times.append(time.perf_counter() - start)
    return statistics.median(found[0][2:]), statistics.median(found[1][2:])

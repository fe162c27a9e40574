"""Latency of models, measured side by side.

The speed of a machine can change by a quarter within a minute. Models that are compared therefore
take turns, and what counts is the ratio of their times in the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

Call = Callable[[], object]
Name = TypeVar('Name', bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Times of the calls of one model, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high


def paired_ratio(timing: Timing, baseline: Timing) -> float:
    """Median over all rounds of one model's time divided by another's.

    Within a round, the machine is in the same state for both. The ratio of their medians would
    compare different states if the machine changed in the middle of a run.

    Args:
        timing: Times of one model.
        baseline: Times of the other model in the same rounds.
    """
    return float(np.median(_quotients(timing, baseline)))


def ratio_interval(
    timing: Timing, baseline: Timing, confidence: float = 0.95, draws: int = 1000
) -> tuple[float, float]:
    """Confidence interval of :func:`paired_ratio`, by bootstrap over the rounds.

    Args:
        timing: Times of one model.
        baseline: Times of the other model in the same rounds.
        confidence: Confidence level. Default: 0.95.
        draws: Number of bootstrap samples. Default: 1000.
    """
    quotients = _quotients(timing, baseline)
    rng = np.random.default_rng(0)
    rounds = rng.integers(len(quotients), size=(draws, len(quotients)))
    ratios = np.median(quotients[rounds], axis=1)
    tail = (1 - confidence) / 2
    return float(np.quantile(ratios, tail)), float(np.quantile(ratios, 1 - tail))


def _quotients(timing: Timing, baseline: Timing) -> np.ndarray:
    return np.array(timing.seconds) / np.array(baseline.seconds)


def on_cpu(call: Call) -> float:
    """Measures the seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def on_gpu(call: Call) -> float:
    """Measures the seconds that a GPU takes for a call, with CUDA events."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def interleave(
    calls: Mapping[Name, Any],
    rounds: int,
    warmup: int,
    clock: Callable[[Any], float] = on_cpu,
) -> dict[Name, Timing]:
    """Times one call of each model per round, in reverse order every second round.

    Args:
        calls: The callables by name, or anything else that ``clock`` takes.
        rounds: Number of timed rounds, at least 2.
        warmup: Number of rounds before them.
        clock: Measures the seconds of one call. Default: :func:`on_cpu`.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for i in tqdm(range(warmup + rounds), desc=f'{len(calls)} in turn', unit='round', leave=False):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            elapsed = clock(calls[name])
            if i >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def inference_call(model: nn.Module, x: Tensor) -> Call:
    """Makes a forward pass in evaluation mode, without gradients."""
    model.eval()

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def training_call(model: nn.Module, x: Tensor, lr: float = 1e-4) -> Call:
    """Makes a training step: forward, cross-entropy, backward and AdamW, on random labels.

    Args:
        model: Model that maps ``x`` to (B, K) logits.
        x: (B, C, H, W) images.
        lr: Learning rate. Default: 1e-4, so that the weights stay small.
    """
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    labels: Tensor | None = None

    def call() -> object:
        nonlocal labels
        logits = model(x)
        if labels is None:
            labels = torch.randint(logits.shape[1], (len(x),), device=x.device)
        loss = nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return call

"""Latency and throughput of models, measured side by side.

Machines drift by a quarter from one minute to the next, so models that are to be compared take
turns within one run, and what counts is the ratio of their times in the same round.
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
    """Times of one model's calls, in seconds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        low, _, high = statistics.quantiles(self.seconds, n=4)
        return low, high


def paired_ratio(timing: Timing, baseline: Timing) -> float:
    """The median over rounds of one model's time by the other's.

    Within a round both find the machine in the same state. Where that changes in the middle of a
    run, medians of the two can come from different states; these quotients do not.

    Args:
        timing: Of one model.
        baseline: Of the other, from the same rounds.
    """
    return float(np.median(_quotients(timing, baseline)))


def ratio_interval(
    timing: Timing, baseline: Timing, confidence: float = 0.95, draws: int = 1000
) -> tuple[float, float]:
    """Confidence interval of :func:`paired_ratio`, by bootstrap over rounds.

    Args:
        timing: Of one model.
        baseline: Of the other, from the same rounds.
        confidence: Default: 95%.
        draws: Samples of the rounds. Default: 1000.
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
    """Seconds that a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def on_gpu(call: Call) -> float:
    """Seconds that a GPU takes for what a call gives it to do, between two of its own events."""
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
    """Times callables in turn, one call of each per round, in reverse order every second round.

    Args:
        calls: What to time, by name; callables, or whatever the clock can time.
        rounds: Rounds that count, at least 2.
        warmup: Rounds before them that do not.
        clock: Times one call. Default: :func:`on_cpu`.
    """
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    for i in tqdm(range(warmup + rounds), desc=f'{len(calls)} in turn', unit='round', leave=False):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            elapsed = clock(calls[name])
            if i >= warmup:
                seconds[name].append(elapsed)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def inference_call(model: nn.Module, x: Tensor) -> Call:
    """A forward pass in evaluation mode, without gradients."""
    model.eval()

    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def training_call(model: nn.Module, x: Tensor, lr: float = 1e-4) -> Call:
    """A training step: forward, cross-entropy, backward and AdamW, on random labels.

    Args:
        model: Maps ``x`` to (B, K) logits.
        x: (B, C, H, W) images.
        lr: Learning rate; small, so that the weights stay ordinary numbers.
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

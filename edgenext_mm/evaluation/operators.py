"""Where the time of a model goes: PyTorch's operators, of several models side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

from .benchmark import build_call
from .latency import Call
from .runtimes import Settings

Times = dict[str, float]


def operator_times(call: Call, calls: int, warmup: int = 5) -> Times:
    """Milliseconds of each operator in a call, without those of the operators that it calls.

    Args:
        call: What to look into, on the CPU.
        calls: How many calls to average over.
        warmup: Calls before them. Default: 5.
    """
    for _ in range(warmup):
        call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            call()
    return {e.key: e.self_cpu_time_total / calls / 1e3 for e in profiler.key_averages()}


def profile_models(
    models: Sequence[str],
    runtime: str,
    batch: int,
    shape: tuple[int, int],
    threads: int,
    calls: int,
) -> dict[str, Times]:
    """The operators of each model.

    Args:
        models: See :func:`~edgenext_mm.evaluation.models.build_named`.
        runtime: ``eager``, ``deploy`` or ``training``.
        batch: Images per call.
        shape: (H, W) of them.
        threads: CPU threads.
        calls: How many to average over.
    """
    x = torch.randn(batch, 3, *shape)
    settings = Settings(threads=threads)
    return {m: operator_times(build_call(m, runtime, x, settings), calls) for m in models}


def operators_table(times: Mapping[str, Times], rows: int) -> str:
    """Markdown: a column for each model, a row for each of the operators that take longest."""
    columns = list(times.values())
    longest = sorted(
        {name for column in columns for name in column},
        key=lambda name: -max(column.get(name, 0) for column in columns),
    )
    named, others = longest[:rows], longest[rows:]
    lines = [f'| operator, ms | {" | ".join(times)} |', '|---' * (len(times) + 1) + '|']
    lines += [_row(f'`{name}`', [c.get(name, 0) for c in columns]) for name in named]
    lines.append(_row('all others', [sum(c.get(name, 0) for name in others) for c in columns]))
    lines.append(_row('sum', [sum(c.values()) for c in columns]))
    return '\n'.join(lines)


def _row(name: str, values: Sequence[float]) -> str:
    return f'| {name} | {" | ".join(f"{value:.1f}" for value in values)} |'

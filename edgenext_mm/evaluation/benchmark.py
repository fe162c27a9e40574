"""Models, runtimes and precisions, timed side by side.

Each model is in a process of its own, as where it is used. Within a runtime all models and
precisions take turns, so that a machine's drift hits all of them alike, and so do the runtimes of
PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from ..deployment.heads import DTYPES
from ..errors import UserError
from .complexity import count_complexity
from .latency import (
    Call,
    Timing,
    interleave,
    on_cpu,
    on_gpu,
    paired_ratio,
    ratio_interval,
    training_call,
)
from .machine import describe_machine, matmul_peak, peak_memory
from .models import TIMM_NAMES, build_named
from .runtimes import Settings, find_runtime, prepare
from .workers import Worker

#: What stands for a runtime where training steps are timed.
TRAINING = 'training'
#: The baseline that means, for each arch, timm's model of the same size.
SAME_SIZE = 'timm'


class Plan(NamedTuple):
    """What to time, and how.

    Args:
        models: Names, see :func:`~edgenext_mm.evaluation.models.build_named`.
        runtimes: Of :data:`~edgenext_mm.evaluation.runtimes.RUNTIMES`, or ``training``.
        precisions: Of each runtime those that it has.
        batches: Images per call.
        shape: (H, W) of them.
        baseline: Model that ratios are to, at the first precision; ``timm`` for timm's model of the
            same size.
        device: Of PyTorch.
        rounds: Calls of each that count.
        warmup: Calls before them.
        settings: All but the precision.
    """

    models: Sequence[str]
    runtimes: Sequence[str]
    precisions: Sequence[str]
    batches: Sequence[int]
    shape: tuple[int, int]
    baseline: str
    device: str
    rounds: int
    warmup: int
    settings: Settings

    def twin(self, model: str) -> str:
        """The model that a model's ratio is to."""
        if self.baseline != SAME_SIZE:
            return self.baseline
        arch = model.removesuffix('_bnhs')
        return f'timm:{TIMM_NAMES[arch]}' if arch in TIMM_NAMES else model

    def check(self) -> None:
        """Refuses baselines that are not timed, and precisions that no runtime has.

        Raises:
            UserError: If there is one.
        """
        if self.device != 'cpu' and not torch.cuda.is_available():
            raise UserError(
                f'--device {self.device}: PyTorch finds no GPU here. Give --device cpu.'
            )
        if self.settings.cuda_graphs and self.device == 'cpu':
            raise UserError('--cuda-graphs needs --device cuda.')
        if missing := {self.twin(model) for model in self.models} - set(self.models):
            raise UserError(
                f'The baseline {", ".join(sorted(missing))} is none of the models: '
                f'{", ".join(self.models)}.'
            )
        for runtime in self.runtimes:
            if not self.precisions_of(runtime):
                raise UserError(
                    f'{runtime} runs in {", ".join(_precisions(runtime))}, not in '
                    f'{", ".join(self.precisions)}.'
                )

    def precisions_of(self, runtime: str) -> list[str]:
        """Those asked for that a runtime has."""
        return [p for p in self.precisions if p in _precisions(runtime)]


def run(plan: Plan) -> dict[str, Any]:
    """Times everything; returns a title, what the machine is, and rows.

    Raises:
        UserError: If something in the plan cannot be.
    """
    plan.check()
    torch.set_num_threads(plan.settings.threads)
    peaks = {
        p: matmul_peak(DTYPES[p], plan.device) if p in DTYPES else None for p in plan.precisions
    }
    rows = [
        row
        for runtimes in _in_turn(plan.runtimes)
        for batch in plan.batches
        for row in _measure(plan, runtimes, batch, peaks)
    ]
    reached = ', '.join(f'{p} {v / 1e9:.0f}' for p, v in peaks.items() if v)
    title = (
        f'{plan.shape[0]}x{plan.shape[1]}, {plan.settings.threads} threads, medians of '
        f'{plan.rounds} interleaved rounds; {describe_machine(plan.device)}; matrix products '
        f'reach, in GMAC/s: {reached}'
    )
    return dict(title=title, baseline=plan.baseline, rows=rows)


def _in_turn(runtimes: Sequence[str]) -> list[list[str]]:
    """Those of PyTorch together, others alone: not all models need be in memory at once."""
    in_torch = [r for r in runtimes if _is_torch(r)]
    return [group for group in (in_torch, *([r] for r in runtimes if r not in in_torch)) if group]


def _is_torch(runtime: str) -> bool:
    return runtime == TRAINING or find_runtime(runtime).in_torch


def _measure(
    plan: Plan, runtimes: Sequence[str], batch: int, peaks: dict
) -> Iterator[dict[str, Any]]:
    keys = [(r, m, p) for r in runtimes for m in plan.models for p in plan.precisions_of(r)]
    madds = {m: count_complexity(build_named(m), plan.shape).madds * batch for m in plan.models}
    on_its_device = on_gpu if _is_torch(runtimes[0]) and plan.device != 'cpu' else on_cpu
    with ExitStack() as stack:
        workers = {}
        for key in tqdm(keys, desc='preparing', unit='model', leave=False):
            worker = Worker(partial(_call, plan, batch, *key), ' '.join(key))
            workers[key] = stack.enter_context(closing(worker))
        timings = interleave(
            workers, plan.rounds, plan.warmup, lambda w: w.ask(partial(_second_call, on_its_device))
        )
        for key, timing in timings.items():
            runtime, model, precision = key
            baseline = timings[runtime, plan.twin(model), plan.precisions_of(runtime)[0]]
            # A training step does more than the multiply-adds that are counted.
            peak = None if runtime == TRAINING else peaks[precision]
            memory = None
            if _is_torch(runtime):
                memory = workers[key].ask(partial(peak_memory, device=plan.device))
            yield dict(
                model=model,
                runtime=runtime,
                precision=precision,
                batch=batch,
                **_figures(timing, baseline, batch),
                fraction_of_peak=peak and round(madds[model] / timing.median / peak, 3),
                peak_memory_mib=memory and round(memory / 2**20, 1),
            )


def build_call(model: str, runtime: str, x: Tensor, settings: Settings) -> Call:
    """A call of a model, or a training step.

    Args:
        model: Name, see :func:`~edgenext_mm.evaluation.models.build_named`.
        runtime: One of :data:`~edgenext_mm.evaluation.runtimes.RUNTIMES`, or ``training``.
        x: (B, 3, H, W) images, on the device to run on.
        settings: How.
    """
    torch.set_num_threads(settings.threads)
    built = build_named(model)
    if runtime == TRAINING:
        return training_call(built.to(x.device), x)
    return prepare(runtime, built, x, settings)


def _call(plan: Plan, batch: int, runtime: str, model: str, precision: str) -> Call:
    torch.manual_seed(0)
    x = torch.randn(batch, 3, *plan.shape, device=plan.device)
    return build_call(model, runtime, x, plan.settings._replace(precision=precision))


def _second_call(clock: Callable[[Call], float], call: Call) -> float:
    """Seconds of a call after one that brings the model back into the caches."""
    call()
    return clock(call)


def _precisions(runtime: str) -> tuple[str, ...]:
    return ('fp32',) if runtime == TRAINING else find_runtime(runtime).precisions


def _figures(timing: Timing, baseline: Timing, batch: int) -> dict[str, Any]:
    low, high = timing.quartiles
    ratio = paired_ratio(timing, baseline)
    return dict(
        median_ms=round(timing.median * 1e3, 3),
        quartiles_ms=[round(low * 1e3, 3), round(high * 1e3, 3)],
        images_per_second=round(batch / timing.median, 2),
        time_ratio=round(ratio, 4),
        time_ratio_95=[round(r, 4) for r in ratio_interval(timing, baseline)],
        throughput_ratio=round(1 / ratio, 4),
    )

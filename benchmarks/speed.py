r"""Time models side by side: latency of inference in several runtimes, or training steps.

Each model runs in its own process. All models and precisions of a runtime take turns, and so do
PyTorch's runtimes, so that changes of the machine's speed affect all of them: compare ratios. With
a runtime as --baseline, all runtimes take turns, and a model is divided by itself there. A
turn is two calls: the first brings the weights back into the caches, the second is timed. Our
models are in deploy form in all runtimes but `eager`. INT8 models are calibrated on random images:
only their speed is meaningful.

Examples:
    python -m benchmarks.speed --models small timm:edgenext_small
    python -m benchmarks.speed --models small timm:edgenext_small timm:mobilevit_s \
        --runtimes eager,deploy,onnxruntime,openvino --precision fp32,int8 \
        --baseline timm:edgenext_small --markdown --plot speed.png
    python -m benchmarks.speed --models small --runtimes onnxruntime,litert,executorch \
        --baseline onnxruntime
    python -m benchmarks.speed --train --batch 16 --shape 128 128 --rounds 40 \
        --models small timm:edgenext_small
    python -m benchmarks.speed --device cuda --batch 1,256 --precision fp32,fp16 \
        --runtimes deploy,compile --cuda-graphs --models small timm:mobilevit_s
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.deployment.heads import DTYPES
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.formats import PRECISIONS

from .documents import find_table, markdown_table, update_table
from .figures import draw_benchmark
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
from .runtimes import RUNTIMES, Settings, find_runtime, prepare
from .workers import Worker

Row = dict[str, Any]

#: The name in place of a runtime when training steps are timed.
TRAINING = 'training'
#: The baseline that stands for timm's model of the same size as each arch.
SAME_SIZE = 'timm'


class Plan(NamedTuple):
    """What to time, and how.

    Args:
        models: Names for :func:`~benchmarks.models.build_named`.
        runtimes: Keys of :data:`~benchmarks.runtimes.RUNTIMES`, or ``training``.
        precisions: Precisions. Each runtime uses those that it supports.
        batches: Batch sizes.
        shape: (H, W) of the images.
        baseline: Model that the others are divided by, at the first precision. ``timm`` stands for
            timm's model of the same size. Or a runtime: each model is divided by itself there, and
            all runtimes take turns.
        device: Device of PyTorch, ``cpu`` or ``cuda``.
        rounds: Number of timed calls of each model.
        warmup: Number of calls before them.
        settings: Settings of the runtimes. The precision in them is replaced.
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

    @property
    def compares_runtimes(self) -> bool:
        """Whether models are divided by themselves in another runtime."""
        return self.baseline in RUNTIMES

    def divisor(self, runtime: str, model: str) -> tuple[str, str, str]:
        """Runtime, model and precision that a model's time is divided by."""
        if self.compares_runtimes:
            runtime = self.baseline
        return runtime, self.twin(model), self.precisions_of(runtime)[0]

    def twin(self, model: str) -> str:
        """The name of the model that a model is divided by."""
        if self.compares_runtimes:
            return model
        if self.baseline != SAME_SIZE:
            return self.baseline
        arch = model.removesuffix('_bnhs')
        return f'timm:{TIMM_NAMES[arch]}' if arch in TIMM_NAMES else model

    def check(self) -> None:
        """Checks device, baseline and precisions.

        Raises:
            UserError: If there is no GPU, the baseline is not timed, or a runtime supports none of
                the precisions.
        """
        if self.device != 'cpu' and not torch.cuda.is_available():
            raise UserError(f'--device {self.device}: PyTorch finds no GPU. Use --device cpu.')
        if unknown := set(self.precisions) - set(PRECISIONS):
            raise UserError(
                f'Unknown precision {min(unknown)!r}. Choose from {", ".join(PRECISIONS)}.'
            )
        if self.settings.cuda_graphs and self.device == 'cpu':
            raise UserError('--cuda-graphs needs --device cuda.')
        if missing := {self.twin(model) for model in self.models} - set(self.models):
            raise UserError(
                f'The baseline {", ".join(sorted(missing))} is not one of the models '
                f'{", ".join(self.models)}. Add it to --models.'
            )
        if self.compares_runtimes and (self.baseline not in self.runtimes or self.device != 'cpu'):
            raise UserError(
                f'The baseline {self.baseline} is a runtime: it must be one of --runtimes, and '
                'all of them run on the CPU.'
            )
        for runtime in self.runtimes:
            if not self.precisions_of(runtime):
                raise UserError(
                    f'{runtime} supports {", ".join(_precisions(runtime))}, not '
                    f'{", ".join(self.precisions)}.'
                )

    def precisions_of(self, runtime: str) -> list[str]:
        """The chosen precisions that a runtime supports."""
        return [p for p in self.precisions if p in _precisions(runtime)]


def run(plan: Plan) -> dict[str, Any]:
    """Times all models.

    Args:
        plan: What to time.

    Returns:
        ``title``, which describes the machine, ``baseline``, and ``rows`` of numbers.

    Raises:
        UserError: If the plan is not possible, see :meth:`Plan.check`.
    """
    plan.check()
    torch.set_num_threads(plan.settings.threads)
    peaks = {
        p: matmul_peak(DTYPES[p], plan.device) if p in DTYPES else None for p in plan.precisions
    }
    # PyTorch's runtimes take turns. Each other runtime runs alone, which needs less memory.
    in_torch = [r for r in plan.runtimes if _is_torch(r)]
    groups = [in_torch, *([r] for r in plan.runtimes if r not in in_torch)]
    if plan.compares_runtimes:
        groups = [list(plan.runtimes)]
    rows = [
        row
        for runtimes in filter(None, groups)
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
            baseline = timings[plan.divisor(runtime, model)]
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
    """Makes a call of a model, or a training step.

    Args:
        model: Name for :func:`~benchmarks.models.build_named`.
        runtime: Key of :data:`~benchmarks.runtimes.RUNTIMES`, or ``training``.
        x: (B, 3, H, W) images on the device to run on.
        settings: Settings of the runtime.
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
    """Times a call after another one that brings the model back into the caches."""
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


def long_table(rows: Sequence[Row]) -> str:
    """Formats a Markdown table with one line per row and all its numbers.

    Args:
        rows: Rows from :func:`run`.
    """
    head = ['runtime', 'precision', 'batch', 'model', 'median, ms', 'quartiles', 'ratio (95%)']
    lines = []
    for row in rows:
        (low, high), (ratio_low, ratio_high) = row['quartiles_ms'], row['time_ratio_95']
        fraction, memory = row['fraction_of_peak'], row['peak_memory_mib']
        lines.append(
            [*(row[key] for key in ('runtime', 'precision', 'batch', 'model'))]
            + [f'{row["median_ms"]:.2f}', f'{low:.2f} to {high:.2f}']
            + [f'{row["time_ratio"]:.3f} ({ratio_low:.3f} to {ratio_high:.3f})']
            + [f'{row["images_per_second"]:.1f}', '' if fraction is None else f'{fraction:.0%}']
            + ['' if memory is None else memory]
        )
    return markdown_table([*head, 'images/s', 'of peak', 'memory, MiB'], lines)


def wide_table(rows: Sequence[Row]) -> str:
    """Formats a Markdown table with a line per model and batch, a column per runtime and precision.

    A cell has milliseconds, and in brackets the ratio to the baseline in that runtime.

    Args:
        rows: Rows from :func:`run`.
    """
    columns = list(dict.fromkeys((r['runtime'], r['precision']) for r in rows))
    batches = ['batch'] if len({r['batch'] for r in rows}) > 1 else []
    lines: dict[tuple, dict[str, object]] = {}
    for r in rows:
        line = lines.setdefault((r['model'], r['batch']), dict(model=r['model'], batch=r['batch']))
        line[f'{r["runtime"]} {r["precision"]}'] = f'{r["median_ms"]:.1f} ({r["time_ratio"]:.2f})'
    head = ['model', *batches, *map(' '.join, columns)]
    return markdown_table(head, [[line.get(c, '') for c in head] for line in lines.values()])


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        help='archs of EdgeNeXt classifiers, ARCH:with_cp, timm:NAME, mmpretrain:NAME or configs',
    )
    parser.add_argument(
        '--baseline',
        help='model that the others are divided by, at the first precision; `timm` stands for '
        "timm's model of the same size; a runtime compares each model with itself there "
        '(default: the last model)',
    )
    parser.add_argument(
        '--runtimes', default='eager', help=f'some of {",".join(RUNTIMES)} (default: eager)'
    )
    parser.add_argument(
        '--precision', default='fp32', help=f'some of {",".join(PRECISIONS)} (default: fp32)'
    )
    parser.add_argument('--train', action='store_true', help='time training steps instead')
    parser.add_argument('--batch', default='1', help='images per call, e.g. 1,16 (default: 1)')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=('H', 'W'),
        help='size of the images (default: 256 256)',
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    parser.add_argument('--channels-last', action='store_true', help='channels-last images')
    parser.add_argument('--cuda-graphs', action='store_true', help='replay a graph of all kernels')
    parser.add_argument(
        '--rounds', type=int, default=200, help='timed calls of each model (default: 200)'
    )
    parser.add_argument('--warmup', type=int, default=10, help='calls before them (default: 10)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--markdown', action='store_true', help='print a table for a document')
    parser.add_argument('--plot', metavar='FILE', help='draw the medians into a .png or .svg file')
    parser.add_argument(
        '--update',
        nargs='+',
        metavar=('TABLE', 'FILE'),
        help='write the table between the marks TABLE of documents',
    )
    return parser.parse_args()


def _plan(args: argparse.Namespace) -> Plan:
    return Plan(
        models=args.models,
        runtimes=[TRAINING] if args.train else args.runtimes.split(','),
        precisions=args.precision.split(','),
        batches=[int(batch) for batch in args.batch.split(',')],
        shape=tuple(args.shape),
        baseline=args.baseline or args.models[-1],
        device=args.device,
        rounds=args.rounds,
        warmup=args.warmup,
        settings=Settings(
            threads=args.threads, channels_last=args.channels_last, cuda_graphs=args.cuda_graphs
        ),
    )


@reports_errors
def main() -> None:
    args = parse_args()
    plan = _plan(args)
    table, *documents = args.update or ('',)
    for path in documents:
        find_table(path, table)  # before the work
    result = run(plan)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        print(result['title'] + '\n' * (1 + args.markdown) + long_table(result['rows']))
    if args.plot:
        draw_benchmark(result['rows'], args.plot)
    write = long_table if args.train else wide_table
    for path in documents:
        update_table(path, table, f'{result["title"]}.\n\n{write(result["rows"])}')


if __name__ == '__main__':
    main()

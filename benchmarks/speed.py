r"""Time models side by side: latency of inference in several runtimes, or training steps.

Each model has a process of its own, as where it is used. Within a runtime models and precisions
take turns, so that a machine's drift hits all alike, and so do PyTorch's runtimes; read the ratios.
A turn is two calls: one brings the weights back into the caches, and one is timed. Models of ours
are in deploy form in all runtimes but `eager`. INT8 is calibrated on the random images that are
timed: good for speed alone.

Examples:
    python -m benchmarks.speed --models small timm:edgenext_small
    python -m benchmarks.speed --models small timm:edgenext_small timm:mobilevit_s \
        --runtimes eager,deploy,onnxruntime,openvino --precision fp32,int8 \
        --baseline timm:edgenext_small --markdown --plot speed.png
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
from edgenext_mm.deployment.file_formats import PRECISIONS
from edgenext_mm.deployment.heads import DTYPES
from edgenext_mm.errors import UserError

from .documents import find_table, update_table
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

#: What stands for a runtime where training steps are timed.
TRAINING = 'training'
#: The baseline that means, for each arch, timm's model of the same size.
SAME_SIZE = 'timm'


class Plan(NamedTuple):
    """What to time, and how.

    Args:
        models: Names, see :func:`~benchmarks.models.build_named`.
        runtimes: Of :data:`~benchmarks.runtimes.RUNTIMES`, or ``training``.
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
        model: Name, see :func:`~benchmarks.models.build_named`.
        runtime: One of :data:`~benchmarks.runtimes.RUNTIMES`, or ``training``.
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


def long_table(rows: Sequence[Row]) -> str:
    """A line for each thing timed, with all there is to say of it."""
    lines = [
        '| runtime | precision | batch | model | median, ms | quartiles | ratio (95%) | images/s '
        '| of peak | memory, MiB |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        low, high = row['quartiles_ms']
        ratio_low, ratio_high = row['time_ratio_95']
        fraction, memory = row['fraction_of_peak'], row['peak_memory_mib']
        lines.append(
            f'| {row["runtime"]} | {row["precision"]} | {row["batch"]} | {row["model"]} '
            f'| {row["median_ms"]:.2f} | {low:.2f} to {high:.2f} | {row["time_ratio"]:.3f} '
            f'({ratio_low:.3f} to {ratio_high:.3f}) | {row["images_per_second"]:.1f} '
            f'| {"" if fraction is None else f"{fraction:.0%}"} '
            f'| {"" if memory is None else memory} |'
        )
    return '\n'.join(lines)


def wide_table(rows: Sequence[Row]) -> str:
    """A line for each model and batch, a column for each runtime and precision: milliseconds, and
    the ratio to the baseline of that runtime."""
    columns = list(dict.fromkeys((r['runtime'], r['precision']) for r in rows))
    cells = {(r['model'], r['batch'], r['runtime'], r['precision']): r for r in rows}
    several = len({r['batch'] for r in rows}) > 1
    heads = ['model', *(['batch'] if several else []), *(' '.join(c) for c in columns)]
    lines = [f'| {" | ".join(heads)} |', '|' + '---|' * len(heads)]
    for model, batch in dict.fromkeys((r['model'], r['batch']) for r in rows):
        values = [_cell(cells.get((model, batch, *column))) for column in columns]
        lines.append(f'| {" | ".join([model, *([str(batch)] if several else []), *values])} |')
    return '\n'.join(lines)


def _cell(row: Row | None) -> str:
    return '' if row is None else f'{row["median_ms"]:.1f} ({row["time_ratio"]:.2f})'


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--models',
        nargs='+',
        required=True,
        help='arch of an EdgeNeXt classifier, ARCH:with_cp, timm:NAME, mmpretrain:NAME or a config',
    )
    parser.add_argument(
        '--baseline',
        help="model that ratios are to, at the first precision; `timm`: each arch's of the same "
        'size (default: the last model)',
    )
    parser.add_argument(
        '--runtimes', default='eager', help=f'of {",".join(RUNTIMES)} (default: eager)'
    )
    parser.add_argument(
        '--precision', default='fp32', help=f'of {",".join(PRECISIONS)} (default: fp32)'
    )
    parser.add_argument('--train', action='store_true', help='time training steps instead')
    parser.add_argument('--batch', default='1', help='images per call, e.g. 1,16 (default: 1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda (default: cpu)')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (default: 2)')
    parser.add_argument('--channels-last', action='store_true', help="PyTorch's memory format")
    parser.add_argument('--cuda-graphs', action='store_true', help='replay a graph of all kernels')
    parser.add_argument('--rounds', type=int, default=200, help='calls of each model (200)')
    parser.add_argument('--warmup', type=int, default=10, help='calls before that (10)')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--markdown', action='store_true', help='print a table for a document')
    parser.add_argument('--plot', metavar='FILE', help='draw the medians: .png or .svg')
    parser.add_argument(
        '--update',
        nargs='+',
        metavar=('TABLE', 'FILE'),
        help='put the table between the marks TABLE of documents; of inference, a column for '
        'each runtime',
    )
    return parser.parse_args()


def plan_of(args: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    return Plan(
        models=args.models,
        runtimes=[TRAINING] if args.train else args.runtimes.split(','),
        precisions=_known(args.precision.split(',')),
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


def _known(precisions: list[str]) -> list[str]:
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UserError(
                f'Unknown precision {precision!r}. Choose from {", ".join(PRECISIONS)}.'
            )
    return precisions


@reports_errors
def main() -> None:
    args = parse_args()
    plan = plan_of(args)
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

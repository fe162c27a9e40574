r"""Profile models on a CPU: the time of each operator in a runtime, side by side.

Profiling slows down small operators most. Compare columns and rows, but take totals from
`python -m benchmarks.speed`.

Examples:
    python -m benchmarks.profile_operators small timm:edgenext_small --runtime deploy
    python -m benchmarks.profile_operators small timm:edgenext_small --runtime training \
        --batch 16 --shape 128 128
    python -m benchmarks.profile_operators small timm:mobilevit_s --runtime onnxruntime
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from edgenext_mm.cli import make_parser, reports_errors

from .documents import find_table, markdown_table, update_table
from .latency import Call
from .machine import describe_machine
from .models import build_named
from .runtimes import Settings, onnxruntime_session, openvino_request
from .speed import build_call

Times = dict[str, float]

#: Number of calls before those that count.
_WARMUP = 5


def operator_times(call: Call, calls: int) -> Times:
    """Measures the milliseconds per call of PyTorch's operators, without operators called by them.

    Args:
        call: The call, on the CPU.
        calls: Number of calls to average over.
    """
    for _ in range(_WARMUP):
        call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            call()
    return {e.key: e.self_cpu_time_total / calls / 1e3 for e in profiler.key_averages()}


def onnxruntime_times(name: str, x: Tensor, settings: Settings, calls: int) -> Times:
    """Measures the milliseconds per call of ONNX Runtime's operators."""
    with tempfile.TemporaryDirectory() as folder:
        model = build_named(name).eval()
        session = onnxruntime_session(model, x, settings, profile=str(Path(folder, 'profile')))
        for _ in range(_WARMUP + calls):
            session.run(None, {'images': x.numpy()})
        events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event['ts'] for event in events if event['name'] == 'model_run']
    times: Counter[str] = Counter()
    for event in events:
        if event['name'].endswith('_kernel_time') and event['ts'] >= runs[_WARMUP]:
            times[event['args']['op_name']] += event['dur']  # microseconds
    return {operator: total / calls / 1e3 for operator, total in times.items()}


def openvino_times(name: str, x: Tensor, settings: Settings, calls: int) -> Times:
    """Measures the milliseconds per call of OpenVINO's operators."""
    request = openvino_request(build_named(name).eval(), x, settings, profile=True)
    times: Counter[str] = Counter()
    for i in range(_WARMUP + calls):
        request.infer(x.numpy())
        for node in request.get_profiling_info() if i >= _WARMUP else ():
            if node.status == node.Status.EXECUTED:
                times[node.node_type] += node.real_time.total_seconds()
    return {operator: total / calls * 1e3 for operator, total in times.items()}


def profile_models(
    models: Sequence[str],
    runtime: str,
    batch: int,
    shape: tuple[int, int],
    threads: int,
    calls: int,
) -> dict[str, Times]:
    """Measures the milliseconds per call of the operators of each model.

    Args:
        models: Names for :func:`~benchmarks.models.build_named`.
        runtime: ``eager``, ``deploy``, ``training``, ``onnxruntime`` or ``openvino``.
        batch: Batch size.
        shape: (H, W) of the images.
        threads: CPU threads.
        calls: Number of calls to average over.
    """
    x = torch.randn(batch, 3, *shape)
    settings = Settings(threads=threads)
    if runtime in PROFILERS:
        return {model: PROFILERS[runtime](model, x, settings, calls) for model in models}
    return {m: operator_times(build_call(m, runtime, x, settings), calls) for m in models}


#: Runtimes with a profiler of their own.
PROFILERS = {'onnxruntime': onnxruntime_times, 'openvino': openvino_times}


def operators_table(times: Mapping[str, Times], rows: int) -> str:
    """Formats a Markdown table with a column per model and a row per operator.

    Args:
        times: Milliseconds of the operators of each model.
        rows: Number of operators to list, longest first. The others are summed.
    """
    columns = list(times.values())
    names = {name for column in columns for name in column}
    longest = sorted(names, key=lambda name: -max(column.get(name, 0) for column in columns))
    lines = [(f'`{name}`', [c.get(name, 0) for c in columns]) for name in longest[:rows]]
    others = [sum(c.get(name, 0) for name in longest[rows:]) for c in columns]
    lines += [('all others', others), ('sum', [sum(c.values()) for c in columns])]
    return markdown_table(
        ['operator, ms', *times],
        [[name, *(f'{ms:.1f}' for ms in values)] for name, values in lines],
    )


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('models', nargs='+', help='as for benchmarks.speed')
    parser.add_argument(
        '--runtime',
        choices=('eager', 'deploy', 'training', *PROFILERS),
        default='eager',
        help='%(choices)s (default: %(default)s)',
    )
    parser.add_argument('--batch', type=int, default=1, help='images per call (1)')
    parser.add_argument(
        '--shape', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'), help='(256 256)'
    )
    parser.add_argument('--threads', type=int, default=2, help='CPU threads (2)')
    parser.add_argument('--calls', type=int, default=20, help='calls to average over (20)')
    parser.add_argument('--rows', type=int, default=15, help='operators to list (15)')
    parser.add_argument(
        '--update', nargs=2, metavar=('TABLE', 'FILE'), help='write the table into a document'
    )
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    if args.update:
        find_table(args.update[1], args.update[0])  # before the work
    times = profile_models(
        args.models, args.runtime, args.batch, tuple(args.shape), args.threads, args.calls
    )
    table = operators_table(times, args.rows)
    height, width = args.shape
    title = (
        f'{args.runtime}, batch {args.batch}, {height}x{width}, {args.threads} threads, '
        f'{args.calls} calls; {describe_machine()}'
    )
    print(f'{title}\n\n{table}')
    if args.update:
        update_table(args.update[1], args.update[0], f'{title}.\n\n{table}')


if __name__ == '__main__':
    main()

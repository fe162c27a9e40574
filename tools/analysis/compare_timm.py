"""Compare EdgeNeXt's speed on the CPU with timm's, the two taking turns in one run.

Inference of one 256x256 image, and training steps of 16 images of 128x128, in eager PyTorch.

Examples:
    python tools/analysis/compare_timm.py --archs small --rounds 300
    python tools/analysis/compare_timm.py --update README.md
"""

import torch

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.latency import inference_call, interleave, training_call
from edgenext_mm.evaluation.models import TIMM_NAMES, build_named


def compare(arch: str, rounds: int) -> str:
    """One row of the table."""
    names = {'ours': arch, 'timm': f'timm:{TIMM_NAMES[arch]}'}
    x = torch.randn(1, 3, 256, 256)
    calls = {k: inference_call(build_named(name), x) for k, name in names.items()}
    latency = interleave(calls, rounds, warmup=10)
    x = torch.randn(16, 3, 128, 128)
    calls = {k: training_call(build_named(name), x) for k, name in names.items()}
    step = interleave(calls, max(rounds // 5, 10), warmup=3)
    ours, timm = (latency[k].median * 1e3 for k in names)
    ours_speed, timm_speed = (len(x) / step[k].median for k in names)
    return (
        f'| `{arch}` | {ours:.1f} ms | {timm:.1f} ms | {ours / timm:.2f} '
        f'| {ours_speed:.0f} | {timm_speed:.0f} | {ours_speed / timm_speed:.2f} |'
    )


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        '--archs', nargs='+', choices=TIMM_NAMES, default=list(TIMM_NAMES), metavar='ARCH'
    )
    parser.add_argument('--rounds', type=int, default=100, help='(default: %(default)s)')
    parser.add_argument('--threads', type=int, default=2, help='(default: %(default)s)')
    parser.add_argument('--update', metavar='FILE', help='put the table into this document')
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    rows = [
        f'| arch | latency, {args.threads} threads | timm | ratio | training, images/s | timm '
        '| ratio |',
        '|---|---|---|---|---|---|---|',
        *(compare(arch, args.rounds) for arch in args.archs),
    ]
    table = '\n'.join(rows)
    print(table)
    if args.update:
        update_table(args.update, 'speed', table)


if __name__ == '__main__':
    main()

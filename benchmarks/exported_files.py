"""Export a trained model to each format and precision, and compare size, accuracy and latency.

The metric is that of the config's test data; INT8 is calibrated on images of --calib. The files
take turns on one random image, so that their times can be compared. Formats whose converter is not
installed are left out. A run writes one record to benchmarks/records/files; --update writes the
table of all records.

Examples:
    python -m benchmarks.exported_files CONFIG best.pth --name sign_digits --calib data/train
    python -m benchmarks.exported_files --update docs/deployment.md
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import nn

from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.testing import metrics_of
from edgenext_mm.checkpoints.finding import find_checkpoint
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import images_in, normalised_images
from edgenext_mm.deployment.converters import CONVERTERS
from edgenext_mm.deployment.file_formats import find_writer, open_session
from edgenext_mm.deployment.verify import Deviation
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing
from edgenext_mm.runtime.formats import FORMATS, with_ending

from .documents import markdown_table, update_table
from .latency import interleave, paired_ratio
from .machine import describe_machine

RECORDS = Path(__file__).parent / 'records' / 'files'
#: Formats whose files can be run here, and their precisions.
FILES = (
    ('onnx', 'fp32'),
    ('onnx', 'int8'),
    ('openvino', 'fp32'),
    ('openvino', 'int8'),
    ('litert', 'fp32'),
    ('litert', 'int8'),
    ('executorch', 'fp32'),
    ('executorch', 'int8'),
    ('ncnn', 'fp32'),
    ('ncnn', 'fp16'),
)
#: The metric of a task in the table, by the first name that a test has, and its factor.
METRICS = {
    'accuracy/top1': ('top-1', 1),
    'coco/bbox_mAP': ('AP', 100),
    'mIoU': ('mIoU', 1),
    'dota/AP50': ('AP50', 100),
}


def measure(
    config: Config, model: nn.Module, folder: Path, calib: Path, threads: int, rounds: int
) -> dict[str, Any]:
    """Exports a model to all of :data:`FILES`, and tests and times them.

    Args:
        config: A complete config with test data.
        model: The model.
        folder: Folder for the files.
        calib: Folder of images to calibrate INT8 on.
        threads: CPU threads for the times.
        rounds: Number of timed rounds.
    """
    shape = input_shape(config)
    images = list(normalised_images(model, images_in(calib, 128), shape))
    baseline = metrics_of(config, model)
    metric = next(name for name in METRICS if name in baseline)
    sessions: dict[tuple[str, str], Any] = {}
    files: list[dict[str, Any]] = []
    for kind, precision in available():
        path = with_ending(folder / f'{kind}-{precision}', kind)
        decodes = ('decode',) if hasattr(model, 'bbox_head') else ()
        deviations = export(
            model,
            path,
            kind,
            shape,
            precision=precision,
            include=decodes,
            calibration=images,
            images=images[:20],
            bound=float('inf'),
        )
        found = metrics_of(config, path)
        print(f'{kind} {precision}: {metric} {found[metric]:.4f} ({baseline[metric]:.4f})')
        sessions[kind, precision] = open_session(path, threads)
        files.append(
            dict(
                format=kind,
                precision=precision,
                bytes=FORMATS[kind].size(path),
                deviation=largest(deviations),
                metric=found[metric],
            )
        )
    x = torch.randn(1, *images[0].shape[1:])
    calls = {name: (lambda session=session: session(x)) for name, session in sessions.items()}
    times = interleave(calls, rounds, warmup=5)
    for file, timing in zip(files, times.values(), strict=True):
        file['latency_ms'] = round(1e3 * timing.median, 3)
        file['ratio'] = round(paired_ratio(timing, times['onnx', 'fp32']), 3)
    return dict(
        arch=model.cfg.model.backbone.arch,
        parameters=sum(p.numel() for p in model.parameters()),
        input=list(shape[::-1]),
        metric=metric,
        model=baseline[metric],
        files=files,
        threads=threads,
        machine=describe_machine(),
    )


def available() -> Iterator[tuple[str, str]]:
    """Yields those of :data:`FILES` whose converter and runtime are installed."""
    for kind, precision in FILES:
        try:
            find_writer(kind)
        except UserError as error:
            print(f'without {kind}: {error}')
            continue
        if kind in CONVERTERS and not CONVERTERS[kind].is_installed:
            print(f'without {kind}: tools/deployment/install_converter.py {kind} installs it')
            continue
        yield kind, precision


def largest(deviations: list[Deviation]) -> float:
    """Returns the largest deviation, relative to the largest value of its output."""
    return max(deviation.relative for deviation in deviations)


def read_records() -> list[dict[str, Any]]:
    """Returns all records by name.

    Raises:
        UserError: If there is none.
    """
    records = [json.loads(path.read_text()) for path in sorted(RECORDS.glob('*.json'))]
    if not records:
        raise UserError(f'{RECORDS} holds no record. Give a config and a checkpoint first.')
    return records


def files_table() -> str:
    """Returns the table of all records."""
    rows = []
    for record in read_records():
        title, factor = METRICS[record['metric']]
        rows += [
            [
                record['name'],
                file['format'],
                file['precision'],
                f'{file["bytes"] / 2**20:.1f} MiB',
                f'{file["deviation"]:.0e}',
                f'{title} {factor * file["metric"]:.1f}',
                f'{factor * (file["metric"] - record["model"]):+.1f}',
                f'{file["latency_ms"]:.1f} ms',
                f'{file["ratio"]:.2f}',
            ]
            for file in record['files']
        ]
    head = ['model', 'format', 'precision', 'size', 'deviation', 'metric', 'difference', 'latency']
    return markdown_table([*head, 'of ONNX FP32'], rows)


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument('config', nargs='?', help='path of a config file')
    parser.add_argument('checkpoint', nargs='?', help='weights: path, URL or zoo name')
    parser.add_argument('--name', help='name of the record')
    parser.add_argument('--calib', type=Path, help='images to calibrate INT8 on')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads for the times')
    parser.add_argument('--rounds', type=int, default=50, help='number of timed rounds')
    parser.add_argument('--update', metavar='FILE', help='write the table into this document')
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    if args.update:
        update_table(args.update, 'files', files_table())
        return
    if not (args.config and args.checkpoint and args.name and args.calib):
        raise UserError('Give CONFIG, CHECKPOINT, --name and --calib, or --update FILE.')
    config = load_config(args.config)
    model = load_model(config, find_checkpoint(args.checkpoint), 'cpu')
    with tempfile.TemporaryDirectory() as folder:
        record = measure(config, model, Path(folder), args.calib, args.threads, args.rounds)
    RECORDS.mkdir(parents=True, exist_ok=True)
    with replacing(RECORDS / f'{args.name}.json') as temporary:
        temporary.write_text(json.dumps(dict(name=args.name, **record), indent=1) + '\n')


if __name__ == '__main__':
    main()

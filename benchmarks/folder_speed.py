"""Time tools/infer.py and edgenext_mm.runtime on a folder of photographs, beside the network alone.

The photographs are 500x375 JPEG parts of two images in scikit-learn. The ratio is the time per
image divided by the network's own, in the same process for the runtime. Commands include their
start.

Examples:
    python -m benchmarks.folder_speed
    python -m benchmarks.folder_speed --images 200 --threads 1
    python -m benchmarks.folder_speed --update docs/speed.md
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from edgenext_mm.apis.model import load_model
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.deployment import export
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.runtime import load
from edgenext_mm.runtime.model import Model

from .documents import markdown_table, update_table
from .machine import describe_machine

ROOT = Path(__file__).parents[1]
CONFIG = 'configs/classification/edgenext-xxsmall_8xb256_in1k.py'


def write_photographs(folder: Path, count: int) -> None:
    """Writes JPEG files of 500x375 pixels."""
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    for i in range(count):
        photograph = photographs[i % len(photographs)]
        left, top = rng.integers(0, (photograph.width - 500, photograph.height - 375))
        part = photograph.crop((left, top, left + 500, top + 375))
        part.save(folder / f'{i:05d}.jpg', quality=90)


def write_model(folder: Path) -> tuple[Path, Path]:
    """Writes a checkpoint with random weights and its ONNX file."""
    config = load_config(ROOT / CONFIG)
    checkpoint, file = folder / 'model.pth', folder / 'model.onnx'
    torch.save(dict(state_dict=build_model(config).state_dict(), meta={}), checkpoint)
    export(load_model(config, checkpoint, 'cpu'), file, 'onnx', input_shape(config))
    return checkpoint, file


def network_time(model: Model, photograph: Path) -> float:
    """Median seconds of the network alone, of 50 runs after 10."""
    inputs = model._inputs(model.preprocessing(photograph).pixels)
    return statistics.median(seconds(lambda: model.session(inputs, None))[0] for _ in range(60))


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def command_seconds(*arguments: object) -> tuple[float, float]:
    """Wall and CPU seconds of a tool."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall = time.perf_counter()
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if done.returncode:
        raise UserError(f'{" ".join(command)} failed:\n{done.stderr[-2000:]}')
    wall = time.perf_counter() - wall
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return wall, cpu


def rows(count: int, threads: int, folder: Path) -> Iterator[list[str]]:
    """Yields the lines of the table for a number of threads."""
    photographs = folder / 'photographs'
    checkpoint, file = write_model(folder)
    model = load(file, threads)
    first = next(photographs.iterdir())
    network = network_time(model, first)
    reading = statistics.median(seconds(lambda: model.preprocessing(first))[0] for _ in range(60))

    def row(name: str, wall: float, cpu: float) -> list[str]:
        per_image = f'{1e3 * wall / count:.1f} ms', f'{1e3 * cpu / count:.1f} ms'
        return [name, str(threads), *per_image, f'{wall / count / network:.2f}']

    yield row('network alone', network * count, network * count * threads)
    yield row('reading and resizing alone', reading * count, reading * count)
    yield row('runtime, folder', *seconds(lambda: model(photographs)))
    infer = 'tools/infer.py'
    yield row('infer.py FILE', *command_seconds(infer, file, photographs, '--threads', threads))
    for batch in (1, 32):
        found = command_seconds(
            infer, CONFIG, photographs, '--checkpoint', checkpoint, '--threads', threads,
            '--batch-size', batch,
        )  # fmt: skip
        yield row(f'infer.py CONFIG, batch {batch}', *found)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('--images', type=int, default=1000, help='number of photographs')
    parser.add_argument('--threads', type=int, nargs='+', default=[1, 2], help='CPU threads')
    parser.add_argument('--update', metavar='FILE', help='write the table into this document')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (photographs := Path(folder, 'photographs')).mkdir()
        write_photographs(photographs, args.images)
        lines = [row for n in args.threads for row in rows(args.images, n, Path(folder))]
    head = ['what', 'threads', 'time per image', 'CPU time', 'of the network']
    title = f'{args.images:,} photographs of 500x375, {CONFIG}; {describe_machine()}.'
    table = f'{title}\n\n{markdown_table(head, lines)}'
    print(table)
    if args.update:
        update_table(args.update, 'folder', table)


if __name__ == '__main__':
    main()

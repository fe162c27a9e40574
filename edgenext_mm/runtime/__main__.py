"""Runs an exported file on images, without PyTorch.

Examples:
    python -m edgenext_mm.runtime cells.onnx photo.jpg
    python -m edgenext_mm.runtime cells.onnx photos/*.jpg --score-thr 0.4 --json > results.jsonl
    python -m edgenext_mm.runtime cells.tflite photo.jpg --threads 4 --time 100
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

from ..errors import UserError
from .model import Model, load
from .results import to_json, to_text


def main() -> int:
    """Prints one line for each image; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(
        'python -m edgenext_mm.runtime',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('file', help='file from tools/deployment/export.py')
    parser.add_argument('images', nargs='+', help='images')
    parser.add_argument('--threads', type=int, help='CPU threads (default: the runtime decides)')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='lowest score of boxes (default: %(default)s)'
    )
    parser.add_argument('--json', action='store_true', help='one JSON object for each image')
    parser.add_argument(
        '--time', type=int, metavar='N', help='also run the first image N times and print the times'
    )
    args = parser.parse_args()
    try:
        model = load(args.file, args.threads)
        if args.time:
            print(measure(model, args.images[0], args.time), file=sys.stderr)
        failed = False
        for name, result in zip(
            args.images, model.stream(args.images, args.score_thr), strict=True
        ):
            failed |= 'error' in result
            text = json.dumps(to_json(name, result)) if args.json else to_text(name, result)
            print(text, flush=True)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return int(failed)


def measure(model: Model, image: str, count: int) -> str:
    """Returns the median milliseconds of reading an image, and of the network with its results."""
    times: list[tuple[float, float]] = []
    for _ in range(count + 1):
        start = time.perf_counter()
        prepared = model.preprocessing(image)
        middle = time.perf_counter()
        model.predict(prepared)
        times.append((middle - start, time.perf_counter() - middle))
    reading, running = (1e3 * statistics.median(part) for part in zip(*times[1:], strict=True))
    return f'reading and resizing {reading:.1f} ms, network and results {running:.1f} ms (median)'


if __name__ == '__main__':
    sys.exit(main())

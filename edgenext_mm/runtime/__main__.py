"""Runs an exported file on images, without PyTorch.

Examples:
    python -m edgenext_mm.runtime cells.onnx photo.jpg
    python -m edgenext_mm.runtime cells.onnx photos --score-thr 0.4 --json > results.jsonl
    python -m edgenext_mm.runtime cells.onnx aerial.tif --tile 1024
    python -m edgenext_mm.runtime cells.onnx camera:0 --json      # needs OpenCV, as videos do
    python -m edgenext_mm.runtime cells.tflite photo.jpg --threads 4 --time 100
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .formats import require
from .model import Model, load
from .results import Result, to_json, to_text
from .sources import ImageSource, is_video, list_images

if TYPE_CHECKING:
    from .videos import Frame

Predict = Callable[[Iterable[ImageSource]], Iterator[Result]]


def main() -> int:
    """Prints one line for each image; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(
        'python -m edgenext_mm.runtime',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('file', help='file from tools/deployment/export.py')
    parser.add_argument(
        'images', nargs='+', help='image files, folders or patterns; videos; camera:0, rtsp://...'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: the runtime decides)')
    parser.add_argument(
        '--reduced-jpeg',
        action='store_true',
        help='decode large JPEG files in a smaller size: faster, with slightly other pixels',
    )
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='lowest score of boxes (default: %(default)s)'
    )
    parser.add_argument('--json', action='store_true', help='one JSON object for each image')
    parser.add_argument(
        '--time', type=int, metavar='N', help='also run the first image N times and print the times'
    )
    parser.add_argument(
        '--tile', type=int, metavar='PIXELS', help='cut large images into tiles of this side'
    )
    parser.add_argument(
        '--overlap',
        type=float,
        default=0.2,
        help='share of the side by which tiles overlap (default: %(default)s)',
    )
    args = parser.parse_args()
    videos = [source for source in args.images if is_video(source)]
    others = [source for source in args.images if source not in videos]
    failed = False
    try:
        model = load(args.file, args.threads, args.reduced_jpeg)
        predict = partial(
            model.stream, score_thr=args.score_thr, tile=args.tile, overlap=args.overlap
        )
        images = list_images(others) if others else []
        if args.time and images:
            print(measure(model, images[0], args.time), file=sys.stderr)
        for source, result in zip(images, predict(images), strict=True):
            failed |= 'error' in result
            write(dict(), source, result, args.json)
        for source in videos:
            for frame, result in frames_of(source, predict):
                write(
                    dict(frame=frame.number, time=round(frame.time, 4)), source, result, args.json
                )
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return int(failed)


def frames_of(source: str, predict: Predict) -> Iterator[tuple[Frame, Result]]:
    """Yields the frames of a video or stream with their results."""
    require('cv2', 'Reading videos')
    from .videos import Video, iterate_video

    return iterate_video(Video(source), predict)


def write(place: dict[str, Any], source: ImageSource, result: Result, as_json: bool) -> None:
    """Prints a result as one line."""
    if as_json:
        print(json.dumps({**place, **to_json(source, result)}), flush=True)
    else:
        name = f'{source}, {place["time"]:.2f} s' if place else source
        print(to_text(name, result), flush=True)


def measure(model: Model, image: ImageSource, count: int) -> str:
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

"""Run a model of any task on images, videos and streams.

Examples:
    python tools/infer.py edgenext-xxsmall_digits data/digits/val/7 --out work_dirs/pictures
    python tools/infer.py CONFIG photo.jpg https://example.org/bird.jpg --checkpoint best.pth
    python tools/infer.py CONFIG 'photos/**/*.jpg' --checkpoint best.pth --json > results.json
    python tools/infer.py model.onnx photos/     # a file from tools/deployment/export.py
    python tools/infer.py CONFIG street.mp4 --checkpoint best.pth --out work_dirs/street
    python tools/infer.py model.onnx camera:0 --json      # or rtsp://...; one line per frame
    python tools/infer.py CONFIG aerial.tif --checkpoint best.pth --tile 1024 --overlap 0.2

Images that cannot be read or processed do not affect the others. They are listed at the end and
have an `error` in the JSON, and the exit status is 1. Ctrl-C prints the results so far and exits
with status 130. Of a video, --out writes NAME.mp4 with the results drawn on it and NAME.jsonl with
a line per frame; Ctrl-C completes both.

An exported file that needs no code of OpenMMLab runs without PyTorch, which starts in less than a
second; with --device or --batch-size it is run in place of the model of its config.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing
from edgenext_mm.runtime import load
from edgenext_mm.runtime.formats import format_of
from edgenext_mm.runtime.results import Result, to_json, to_text
from edgenext_mm.runtime.sources import ImageSource, is_url, is_video, list_images

# What needs PyTorch, OpenCV or Matplotlib is imported where it is used: they take seconds.


class Predictor(NamedTuple):
    """A model for the settings of the command line.

    Args:
        stream: Yields the results of images one by one.
        read: Reads an image as the model sees it, (H, W) or (H, W, C) blue-green-red.
        classes: Class names, if they are known.
    """

    stream: Callable[[Iterable[ImageSource]], Iterator[Result]]
    read: Callable[[ImageSource], np.ndarray]
    classes: Sequence[str]


def parse_args() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        'model', help='config file, name of a shipped config or zoo model, or exported file'
    )
    parser.add_argument(
        'images',
        nargs='+',
        help='image files, folders, patterns or URLs; video files; camera:0, rtsp://...',
    )
    parser.add_argument(
        '--checkpoint',
        help="path or URL of the weights (default: best or latest in the config's work folder)",
    )
    parser.add_argument(
        '--out',
        metavar='DIR',
        help='write pictures to this folder: an overview, and one per image for results other '
        'than classes',
    )
    parser.add_argument(
        '--json',
        action='store_true',
        help='print the results as JSON; those of videos as a line per frame',
    )
    parser.add_argument('--device', help='where to run, e.g. cpu or cuda:1 (default: a GPU if any)')
    parser.add_argument(
        '--threads', type=int, help='CPU threads (default: the runtime decides; all for folders)'
    )
    parser.add_argument(
        '--reduced-jpeg',
        action='store_true',
        help='decode large JPEG files in a smaller size: faster, with slightly other pixels',
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        help='images per batch (default: %(default)s). Images of different sizes are padded to '
        'the largest in their batch, which changes results slightly',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='minimum score of detected objects (default: %(default)s)',
    )
    parser.add_argument(
        '--tile',
        type=int,
        metavar='PIXELS',
        help='cut large images into tiles of this side, and merge the results',
    )
    parser.add_argument(
        '--overlap',
        type=float,
        default=0.2,
        help='share of the side by which tiles overlap (default: %(default)s)',
    )
    return parser.parse_args()


@reports_errors
def main() -> None:
    args = parse_args()
    videos = [source for source in args.images if is_video(source)]
    others = [source for source in args.images if source not in videos]
    images = list_images(others) if others else []
    with redirect_stdout(sys.stderr):  # stdout is for results; libraries print while they load
        predictor = without_pytorch(args, images) or with_pytorch(args)
    for video in videos:
        run_video(predictor, video, args)
    if images:
        run_images(predictor, images, args)


def without_pytorch(args: argparse.Namespace, images: Sequence[ImageSource]) -> Predictor | None:
    """Returns a predictor for an exported file, unless it needs PyTorch or OpenMMLab."""
    other = args.device or args.checkpoint or args.batch_size != 1 or any(map(is_url, images))
    if other or format_of(args.model) is None:
        return None
    try:
        model = load(args.model, args.threads, args.reduced_jpeg)
    except UserError:
        return None  # if the file is the reason, OpenMMLab's side has the same error
    options = dict(score_thr=args.score_thr, tile=args.tile, overlap=args.overlap)
    return Predictor(
        partial(model.stream, **options), model.preprocessing.read, model.classes or ()
    )


def with_pytorch(args: argparse.Namespace) -> Predictor:
    """Returns a predictor for any model."""
    import torch

    from edgenext_mm.apis.inference import iterate_results
    from edgenext_mm.apis.model import load_model
    from edgenext_mm.datasets.image_pipeline import ImagePipeline
    from edgenext_mm.deployment import switch_to_deploy

    if args.threads:
        torch.set_num_threads(args.threads)
    if args.reduced_jpeg:
        raise UserError('--reduced-jpeg is for exported files that run without PyTorch.')
    model = load_model(args.model, args.checkpoint, args.device, args.threads)
    with suppress(UserError):  # a model without EdgeNeXt, or a pruned one, has no deploy form
        model = switch_to_deploy(model)
    options = dict(score_thr=args.score_thr, tile=args.tile, overlap=args.overlap)
    return Predictor(
        partial(iterate_results, model, batch_size=args.batch_size, **options),
        ImagePipeline(model.cfg).read,
        model.dataset_meta.get('classes') or (),
    )


def run_images(
    predictor: Predictor, images: Sequence[ImageSource], args: argparse.Namespace
) -> None:
    with redirect_stdout(sys.stderr):
        results = run(predictor, images)
    pairs = list(zip(images, results, strict=False))
    if args.json:
        print(json.dumps([to_json(*pair) for pair in pairs], indent=2))
    else:
        lines = [to_text(*pair) for pair in pairs if 'error' not in pair[1]]
        print('\n'.join(lines), end='\n' * bool(lines))
    if len(results) < len(images):
        print(f'interrupted after {len(results)} of {len(images)} images', file=sys.stderr)
        sys.exit(130)
    problems = [f'  {result["error"]}' for result in results if 'error' in result]
    if problems:
        problems.insert(0, f'{len(problems)} of {len(images)} images have no result:')
    if args.out:
        problems += draw(predictor, images, results, args)
    if problems:
        raise UserError('\n'.join(problems))


def run(predictor: Predictor, images: Sequence[ImageSource]) -> list[Result]:
    """Returns a result for each image; after an interruption, those so far."""
    results: list[Result] = []
    with suppress(KeyboardInterrupt):
        found = predictor.stream(images)
        for result in tqdm(found, total=len(images), unit='image', disable=None):
            results.append(result)
    return results


def run_video(predictor: Predictor, source: str, args: argparse.Namespace) -> None:
    """Prints or writes a line per frame, and writes a video with the results drawn on it."""
    from edgenext_mm.runtime.videos import Video, iterate_video, writing_video
    from edgenext_mm.visualization.frames import draw_on_frame

    video = Video(source)
    frames = iterate_video(video, predictor.stream)
    interrupted = False
    with ExitStack() as stack:
        writer = lines = None
        if args.out:
            name = re.sub(r'\W+', '_', Path(source).stem)
            target = Path(args.out, f'{name}.mp4')
            if target.exists() and target.samefile(source):
                raise UserError(f'{target} is the video itself. Give another folder (--out).')
            writer = stack.enter_context(writing_video(target, video.rate))
            path = stack.enter_context(replacing(target.with_suffix('.jsonl')))
            lines = stack.enter_context(path.open('w'))
        try:
            for frame, result in tqdm(frames, total=video.num_frames, unit='frame', disable=None):
                entry = dict(frame=frame.number, time=round(frame.time, 4))
                line = json.dumps({**entry, **to_json(source, result)})
                if lines:
                    lines.write(line + '\n')
                    writer.write(draw_on_frame(frame.image, result))
                if args.json:
                    print(line, flush=True)
                elif not lines:
                    print(to_text(f'{frame.time:8.2f} s', result), flush=True)
        except KeyboardInterrupt:
            interrupted = True
    if args.out:
        print(f'video: {target}, results: {target.with_suffix(".jsonl")}', file=sys.stderr)
    if interrupted:
        print(f'interrupted: {source}', file=sys.stderr)
        sys.exit(130)


def draw(
    predictor: Predictor,
    images: Sequence[ImageSource],
    results: Sequence[Result],
    args: argparse.Namespace,
) -> list[str]:
    """Writes pictures, and returns the problems."""
    from edgenext_mm.visualization.pictures import plot_predictions

    options = args.out, Path(args.model).name, predictor.read
    try:
        for path in plot_predictions(images, results, predictor.classes, *options):
            print(f'picture: {path}', file=sys.stderr)
    except UserError as error:
        return [str(error)]
    return []


if __name__ == '__main__':
    main()

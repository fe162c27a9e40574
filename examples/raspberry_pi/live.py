"""Shows what a model sees in a camera, a video or a folder of images, without PyTorch.

On a Raspberry Pi (64-bit), from a clone, in a virtual environment:

    pip install "./runtime[onnxruntime,opencv]"       # or [litert,opencv], [ncnn,opencv]
    sudo apt install python3-picamera2                # for --source picamera; then
                                                      # python -m venv --system-site-packages
    python examples/raspberry_pi/live.py cells.onnx

Export the model with `--include preprocess` (classifiers), `preprocess,decode` (detectors,
segmentors). INT8 files are the fastest ones.

Without a display, write the last picture to a file and the results to stdout:

    python examples/raspberry_pi/live.py cells.onnx --picture last.jpg --threads 3

Stop with Ctrl-C, or q in the window.
"""

import argparse
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edgenext_mm.runtime import load
from edgenext_mm.runtime.results import class_name, is_class, object_names, to_text
from edgenext_mm.runtime.sources import is_video, list_images
from edgenext_mm.runtime.videos import Video

COLOUR = (60, 200, 60)


def frames_of(source: str) -> Iterator[np.ndarray]:
    """Yields (H, W, 3) frames, blue-green-red."""
    if source == 'picamera':
        from picamera2 import Picamera2

        camera = Picamera2()
        # Picamera2 names formats by the order in memory, reversed: this is blue-green-red.
        camera.configure(camera.create_video_configuration(main=dict(format='RGB888')))
        camera.start()
        while True:
            yield camera.capture_array()
    elif is_video(source):
        yield from (frame.image for frame in Video(source))
    else:
        yield from (cv2.imread(str(path)) for path in list_images(source))


def draw(image: np.ndarray, result: dict) -> np.ndarray:
    """Returns a picture of a result."""
    canvas = image.copy()
    if 'sem_seg' in result:
        hues = (result['sem_seg'] * 37 % 180).astype(np.uint8)
        full: np.ndarray = np.full_like(hues, 200)
        colours = cv2.cvtColor(np.dstack([hues, full, full]), cv2.COLOR_HSV2BGR)
        return cv2.addWeighted(canvas, 0.5, colours, 0.5, 0)
    if is_class(result):
        write(canvas, class_name(result), (8, 24))
        return canvas
    for box, name, score in zip(
        result['bboxes'], object_names(result), result['scores'], strict=True
    ):
        if len(box) == 5:
            x, y, width, height, angle = map(float, box)
            corners = cv2.boxPoints(((x, y), (width, height), np.degrees(angle)))
        else:
            corners = box[[0, 1, 2, 1, 2, 3, 0, 3]].reshape(4, 2)
        points = corners.round().astype(np.int32)
        cv2.polylines(canvas, [points], True, COLOUR, 2)
        x, y = points.min(0)
        write(canvas, f'{name} {score:.0%}', (int(x), max(int(y) - 4, 12)))
    return canvas


def write(canvas: np.ndarray, text: str, place: tuple[int, int]) -> None:
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.6, COLOUR, 1, cv2.LINE_AA)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('file', help='file from tools/deployment/export.py')
    parser.add_argument(
        '--source', default='camera:0', help='camera:N, picamera, rtsp://..., a video or a folder'
    )
    parser.add_argument('--threads', type=int, help='CPU threads (default: the runtime decides)')
    parser.add_argument('--score-thr', type=float, default=0.4, help='lowest score of boxes')
    parser.add_argument('--picture', metavar='FILE', help='write pictures here, show no window')
    args = parser.parse_args()
    model = load(args.file, args.threads)
    waiting: deque[np.ndarray] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames_of(args.source):
            waiting.append(frame)
            yield frame

    start, count = time.perf_counter(), 0
    try:
        for count, result in enumerate(model.stream(images(), args.score_thr), start=1):
            rate = count / (time.perf_counter() - start)
            print(to_text(f'{rate:5.1f} images/s', result), flush=True)
            frame = waiting.popleft()
            picture = frame if 'error' in result else draw(frame, result)
            if args.picture:
                target = Path(args.picture)
                temporary = target.with_name(f'new-{target.name}')
                cv2.imwrite(str(temporary), picture)
                os.replace(temporary, target)  # readers never see half a picture
            else:
                cv2.imshow(args.file, picture)
                if cv2.waitKey(1) == ord('q'):
                    break
    except KeyboardInterrupt:
        pass
    print(f'{count} images')


if __name__ == '__main__':
    main()

"""Shows what a model sees in a camera, a video or a folder of images, without PyTorch.

On a Raspberry Pi (64-bit), from a clone, in a virtual environment:

    pip install "./runtime[onnxruntime,opencv]"       # or [litert,opencv], [ncnn,opencv]
    sudo apt install python3-picamera2                # for --source picamera; then
                                                      # python -m venv --system-site-packages
    python examples/raspberry_pi/live.py cells.onnx

Export the model with `--include preprocess` (classifiers), `preprocess,decode` (detectors,
segmentors).

Without a display, write the last picture to a file and the results to stdout:

    python examples/raspberry_pi/live.py cells.onnx --picture last.jpg --threads 3

Stop with Ctrl-C, or q in the window.
"""

import argparse
import itertools
import time
from collections.abc import Iterator
from functools import partial

import cv2
import numpy as np

from edgenext_mm.files import replacing
from edgenext_mm.runtime import Model, load
from edgenext_mm.runtime.results import class_name, is_class, object_names, to_text
from edgenext_mm.runtime.sources import is_video, list_images
from edgenext_mm.runtime.videos import Frame, Video, iterate_video

COLOUR = (60, 200, 60)


def frames_of(source: str, model: Model) -> Iterator[Frame]:
    """Yields the frames of a camera or a video, or the images of a folder."""
    if source == 'picamera':
        from picamera2 import Picamera2

        camera = Picamera2()
        # Picamera2 names formats by the order in memory, reversed: this is blue-green-red.
        camera.configure(camera.create_video_configuration(main=dict(format='RGB888')))
        camera.start()
        for i in itertools.count():
            yield Frame(i, time.perf_counter(), camera.capture_array())
    elif is_video(source):
        yield from Video(source)
    else:
        for i, path in enumerate(list_images(source)):
            yield Frame(i, time.perf_counter(), model.preprocessing.read(path))


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
    frames = frames_of(args.source, model)
    predict = partial(model.stream, score_thr=args.score_thr)
    start, count = time.perf_counter(), 0
    try:
        for count, (frame, result) in enumerate(iterate_video(frames, predict), start=1):
            rate = count / (time.perf_counter() - start)
            print(to_text(f'{rate:5.1f} images/s', result), flush=True)
            picture = frame.image if 'error' in result else draw(frame.image, result)
            if args.picture:
                with replacing(args.picture) as temporary:  # readers never see half a picture
                    cv2.imwrite(str(temporary), picture)
            else:
                cv2.imshow(args.file, picture)
                if cv2.waitKey(1) == ord('q'):
                    break
    except KeyboardInterrupt:
        pass
    print(f'{count} images')


if __name__ == '__main__':
    main()

"""Videos and camera streams: reading, inference frame by frame, writing."""

from __future__ import annotations

import os
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..errors import UserError
from ..files import replacing
from .results import Result
from .sources import STREAM

#: Frames that a stream or a video without a rate is assumed to have per second.
_DEFAULT_RATE = 25.0


class Frame(NamedTuple):
    """A frame of a video.

    Args:
        number: Its number, from 0.
        time: Seconds since the first frame.
        image: (H, W, 3) uint8, blue-green-red.
    """

    number: int
    time: float
    image: np.ndarray


class Video:
    """An opened video or stream.

    Args:
        source: Path of a video file, ``camera:N``, or the address of a stream.

    Attributes:
        rate: Frames per second.
        num_frames: Number of frames; None if it is unknown, as for streams.

    Raises:
        UserError: If it cannot be opened.
    """

    def __init__(self, source: str | Path) -> None:
        self.source = str(source)
        is_file = STREAM.fullmatch(self.source) is None
        if is_file and not Path(self.source).is_file():
            raise UserError(f'The video {self.source} does not exist.')
        camera = re.fullmatch(r'camera:(\d+)', self.source)
        self._capture = cv2.VideoCapture(int(camera[1]) if camera else self.source)
        if not self._capture.isOpened():
            raise UserError(
                f'{self.source} cannot be opened as a video. '
                + (
                    'OpenCV does not know its format; convert it, for example with ffmpeg to mp4.'
                    if is_file
                    else 'Check the address, or the number of the camera.'
                )
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < 1000 else _DEFAULT_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if is_file and count > 0 else None

    def __iter__(self) -> Iterator[Frame]:
        """Yields the frames, turned as the file says.

        Raises:
            UserError: If there is no frame.
        """
        index = 0
        try:
            while True:
                good, image = self._capture.read()
                if not good:
                    break
                yield Frame(index, index / self.rate, image)
                index += 1
        finally:
            self._capture.release()
        if index == 0:
            raise UserError(f'No frame of {self.source} can be read.')
        if self.num_frames is not None and index < self.num_frames:
            warnings.warn(
                f'{self.source} ends after {index:,} of {self.num_frames:,} frames; its end is '
                'missing or damaged.',
                stacklevel=2,
            )


def iterate_video(
    video: Iterable[Frame], predict: Callable[[Iterable[Any]], Iterator[Result]]
) -> Iterator[tuple[Frame, Result]]:
    """Yields the frames of a video with their results, as they come.

    Args:
        video: The video.
        predict: Yields the results of images one by one, such as
            :meth:`~edgenext_mm.runtime.Model.stream`; it may read some images ahead.
    """
    waiting: deque[Frame] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in video:
            waiting.append(frame)
            yield frame.image

    for result in predict(images()):
        yield waiting.popleft(), result


class VideoWriter:
    """Writes frames to an MP4 file. Use :func:`writing_video` to open one."""

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: cv2.VideoWriter | None = None

    def write(self, image: np.ndarray) -> None:
        """Adds a frame.

        Args:
            image: (H, W, 3) uint8, blue-green-red; all frames have the size of the first.

        Raises:
            UserError: If OpenCV cannot write MP4 files.
        """
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            codec = cv2.VideoWriter.fourcc(*'mp4v')
            self._writer = cv2.VideoWriter(str(self.path), codec, self.rate, size)
            if not self._writer.isOpened():
                raise UserError(f'This build of OpenCV cannot write the video {self.path}.')
        self._writer.write(image)

    def close(self) -> None:
        """Completes the file."""
        if self._writer is not None:
            self._writer.release()


@contextmanager
def writing_video(path: str | os.PathLike[str], rate: float) -> Iterator[VideoWriter]:
    """Opens a video for writing; it appears under its name once it is complete.

    After an exception, including an interruption, nothing is left behind.

    Args:
        path: The MP4 file.
        rate: Frames per second.
    """
    with replacing(path) as temporary:
        writer = VideoWriter(temporary, rate)
        try:
            yield writer
        finally:
            writer.close()

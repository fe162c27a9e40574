"""Videos and camera streams: reading, inference frame by frame, writing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from mmengine.logging import print_log
from torch import nn

from ..errors import UserError
from ..files import replacing
from ..runtime.results import Result
from .inference import iterate_results

#: Endings of video files, in lower case.
VIDEO_EXTENSIONS = ('.avi', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg', '.webm', '.wmv')
_STREAM = re.compile(r'(rtsp|rtmp|udp|tcp)://.+|camera:\d+')
#: Frames that a stream or a video without a rate is assumed to have per second.
_DEFAULT_RATE = 25.0


def is_video(source: Any) -> bool:
    """Whether a source is a video file or a stream: ``camera:0`` or an address such as rtsp://."""
    text = str(source) if isinstance(source, (str, Path)) else ''
    return text.lower().endswith(VIDEO_EXTENSIONS) or _STREAM.fullmatch(text) is not None


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
        is_file = _STREAM.fullmatch(self.source) is None
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
            print_log(
                f'{self.source} ends after {index:,} of {self.num_frames:,} frames; its end is '
                'missing or damaged.',
                'current',
                30,
            )


def iterate_video(
    model: nn.Module,
    video: Video,
    batch_size: int = 1,
    score_thr: float = 0.3,
    tile: int | None = None,
    overlap: float = 0.2,
) -> Iterator[tuple[Frame, Result]]:
    """Yields the frames of a video with their results, as they come.

    Args:
        model: A model from :func:`~edgenext_mm.apis.model.load_model`.
        video: The video.
        batch_size: Number of frames per forward pass. Default: 1.
        score_thr: Minimum score of detected objects. Default: 0.3.
        tile: Side of tiles in pixels, see :mod:`~edgenext_mm.apis.tiling`. Default: None.
        overlap: Share of the side by which tiles overlap. Default: 0.2.
    """
    frames: list[Frame] = []

    def results() -> Iterator[tuple[Frame, Result]]:
        images = [frame.image for frame in frames]
        found = iterate_results(model, images, batch_size, score_thr, tile, overlap)
        yield from zip(frames, found, strict=True)

    for frame in video:
        frames.append(frame)
        if len(frames) == 2 * batch_size:  # so that one batch is prepared while another runs
            yield from results()
            frames = []
    if frames:
        yield from results()


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

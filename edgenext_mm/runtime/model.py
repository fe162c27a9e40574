"""Exported files as functions from images to results."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from ..errors import UserError
from .boxes import Detections, Selection, final_detections, pasted, rescaled, select
from .images import resize_labels, resize_maps
from .metadata import Metadata
from .preprocessing import Prepared, Preprocessing
from .results import Result, class_names
from .sessions import Session, open_session
from .sources import ImageSource, is_single, list_images
from .tiling import cut_tiles, predict_tiles


def load(path: str | Path, threads: int | None = None, reduced_jpeg: bool = False) -> Model:
    """Opens an exported file.

    Args:
        path: Path of the file; its suffix determines the format.
        threads: Number of CPU threads. All of them compute a single image; of several images,
            each thread computes its own. Default: the choice of the runtime for a single image, the
            number of cores for several.
        reduced_jpeg: Whether to decode JPEG files at 1/2, 1/4 or 1/8 of their size where the test
            pipeline shrinks them at least as much. This is several times faster for large
            photographs and changes their pixels slightly. Default: False.

    Returns:
        A function from images to results.

    Raises:
        UserError: If the file cannot be opened, needs a runtime that is not installed, or does not
            hold what is needed to compute results without PyTorch.
    """
    session = open_session(path, threads)
    workers = threads or os.cpu_count() or 1
    return Model(session, str(path), reduced_jpeg, workers, partial(open_session, path, 1))


class Model:
    """A function from images to results, those of :func:`~edgenext_mm.inference_model`.

    Args:
        session: The opened file.
        name: Its name, for error messages.
        reduced_jpeg: See :func:`load`. Default: False.
        threads: Number of threads that compute several images. Default: 1.
        reopen: Opens the file for one of several threads. Default: they share ``session``.

    Raises:
        UserError: If the file does not hold what is needed to compute results without PyTorch.
    """

    def __init__(
        self,
        session: Session,
        name: str,
        reduced_jpeg: bool = False,
        threads: int = 1,
        reopen: Callable[[], Session] | None = None,
    ) -> None:
        self.session, self.name, self.threads = session, name, threads
        self.reopen = reopen if threads > 1 and reopen else lambda: session
        self.metadata = session.metadata
        self.classes = self.metadata.classes
        self.results = self.metadata.results
        self.preprocessing = Preprocessing(self.metadata.preprocessing, reduced_jpeg)
        if not self.results:
            remedy = 'Run it with `edgenext_mm.inference_model`'
            if self.metadata.outputs[0].startswith(('cls_score', 'bbox')):
                remedy = 'Export it with `--include decode`'
            raise UserError(
                f'{name} holds the raw outputs {", ".join(self.metadata.outputs[:3])}, ... of its '
                f'head, which only OpenMMLab turns into results. {remedy}.'
            )

    def __call__(
        self,
        images: ImageSource | Iterable[ImageSource],
        score_thr: float = 0.3,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> Result | list[Result]:
        """Predicts one image or several.

        Args:
            images: A file, a Pillow image, or an (H, W), (H, W, 3) or (H, W, 4) uint8 array in the
                order blue, green, red, alpha; a folder; or several of them.
            score_thr: Minimum score of boxes. Default: 0.3.
            tile: Side in pixels of the tiles that large images are cut into, see
                :mod:`~edgenext_mm.runtime.tiling`. Default: None, whole images.
            overlap: Share of the side by which tiles overlap. Default: 0.2.

        Returns:
            The result, see :mod:`edgenext_mm.runtime.results`; of several images a list, in which a
            result with the key ``error`` stands for an image that cannot be read.

        Raises:
            UserError: If the only image cannot be read, or is larger than the file takes; or if
                ``tile`` or ``overlap`` is out of range.
        """
        if is_single(images):
            return self._result(self._read(images, tile), score_thr, tile, overlap)
        return list(self.stream(list_images(images), score_thr, tile, overlap))

    def stream(
        self,
        images: Iterable[ImageSource],
        score_thr: float = 0.3,
        tile: int | None = None,
        overlap: float = 0.2,
    ) -> Iterator[Result]:
        """Yields the results of images, which threads read and compute at the same time.

        Args:
            images: Single images, as for calling this object; they may be endless.
            score_thr: Minimum score of boxes. Default: 0.3.
            tile: Side of tiles in pixels. Default: None, whole images.
            overlap: Share of the side by which tiles overlap. Default: 0.2.

        Yields:
            A result for each image, in order; ``dict(error=REASON)`` for images that fail.
        """
        if tile is not None:
            cut_tiles((1, 1), tile, overlap)  # checks the settings
        # Threads that share a network wait for each other, and not all runtimes allow it.
        sessions: SimpleQueue[Session] = SimpleQueue()
        for _ in range(self.threads):
            sessions.put(self.reopen())

        def result(image: ImageSource) -> Result:
            try:
                read = self._read(image, tile)
                session = sessions.get()
                try:
                    return self._result(read, score_thr, tile, overlap, session)
                finally:
                    sessions.put(session)
            except UserError as error:
                return dict(error=str(error))

        remaining, ahead = iter(images), 2 * self.threads
        with ThreadPoolExecutor(self.threads + 1, 'images') as pool:  # one more reads
            waiting = [pool.submit(result, image) for image in islice(remaining, ahead)]
            try:
                while waiting:
                    current = waiting.pop(0).result()
                    waiting += [pool.submit(result, image) for image in islice(remaining, 1)]
                    yield current
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, source: ImageSource, tile: int | None) -> Prepared | np.ndarray:
        """Returns an image as the network takes it, or its pixels if it will be cut into tiles."""
        return self.preprocessing(source) if tile is None else self.preprocessing.read(source)

    def _result(
        self,
        image: Prepared | np.ndarray,
        score_thr: float,
        tile: int | None,
        overlap: float,
        session: Session | None = None,
    ) -> Result:
        if isinstance(image, Prepared):
            return self.predict(image, score_thr, session)

        def predict(parts: Sequence[np.ndarray]) -> list[Result]:
            return [self.predict(self.preprocessing(part), score_thr, session) for part in parts]

        return predict_tiles(image, tile or 0, overlap, predict)

    def predict(
        self, image: Prepared, score_thr: float = 0.3, session: Session | None = None
    ) -> Result:
        """Predicts an image that :attr:`preprocessing` has read.

        Args:
            image: The image after the steps of the pipeline.
            score_thr: Minimum score of boxes. Default: 0.3.
            session: The opened file to use. Default: :attr:`session`.
        """
        size = image.pixels.shape[:2]
        inputs = self._inputs(image.pixels)
        shape = inputs.shape[1:3] if inputs.dtype == np.uint8 else inputs.shape[2:]
        extra = None
        if takes_image_size(self.metadata):
            extra = dict(
                image_size=np.array([size], np.float32),
                scale_factor=np.array([image.scale_factor], np.float32),
            )
        outputs = (session or self.session)(inputs, extra)
        if self.metadata.task == 'classification':
            return self._classes(outputs[0][0])
        if self.metadata.task == 'segmentation':
            return self._segmentation(outputs[0][0], size, shape, image.original_size)
        return self._detections(outputs, image, shape, score_thr)

    def _inputs(self, pixels: np.ndarray) -> np.ndarray:
        """Returns one image as the file takes it, padded to its size."""
        shape = self._shape(*pixels.shape[:2])
        normalise = 'preprocess' not in self.metadata.include
        return np.ascontiguousarray(self.preprocessing.pad(pixels, shape, normalise))[None]

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        """Returns (H, W) of the input for an image of a size."""
        metadata = self.metadata
        padded = self.preprocessing.padded_shape((height, width))
        wanted = (
            padded[0] if 'height' in metadata.dynamic else metadata.shape[0],
            padded[1] if 'width' in metadata.dynamic else metadata.shape[1],
        )
        if height > wanted[0] or width > wanted[1]:
            raise UserError(
                f'{self.name} takes images of up to {wanted[0]}x{wanted[1]} pixels after '
                f'resizing, got {height}x{width}. Export it with a larger --shape, or with '
                '--dynamic height,width.'
            )
        if (height, width) != wanted and metadata.task == 'classification':
            raise UserError(
                f'{self.name} takes images of {wanted[0]}x{wanted[1]} pixels after resizing, got '
                f'{height}x{width}. A classifier sees padding as part of the image: resize or crop '
                'to one size in the test pipeline and export with that --shape, or with --dynamic '
                'height,width.'
            )
        return wanted

    def _classes(self, output: np.ndarray) -> Result:
        scores: np.ndarray = output.astype(np.float32)
        has_one_label = self.results['activation'] == 'softmax'
        if 'decode' not in self.metadata.include:
            exponents = np.exp(scores - scores.max() if has_one_label else -scores)
            scores = exponents / exponents.sum() if has_one_label else 1 / (1 + exponents)
        if has_one_label:
            label = int(scores.argmax())
            found: Result = dict(pred_label=label)
            if self.classes:
                found['pred_class'] = class_names([label], self.classes)[0]
            return dict(**found, pred_score=float(scores[label]), pred_scores=scores)
        if self.results['threshold'] is not None:
            labels = np.flatnonzero(scores >= self.results['threshold'])
        else:
            labels = np.argsort(-scores, kind='stable')[: self.results['topk']]
        found = dict(pred_labels=labels)
        if self.classes:
            found['pred_classes'] = class_names(labels, self.classes)
        return dict(**found, pred_scores=scores)

    def _segmentation(
        self,
        output: np.ndarray,
        size: Sequence[int],
        shape: Sequence[int],
        original: tuple[int, int],
    ) -> Result:
        height, width = size
        if 'decode' in self.metadata.include:
            sem_seg = resize_labels(output[:height, :width], original)
        else:
            corners = self.results['align_corners']
            maps = resize_maps(output.astype(np.float32), (shape[0], shape[1]), corners)
            maps = resize_maps(maps[:, :height, :width], original, corners)
            if len(maps) > 1:
                sem_seg = maps.argmax(0)
            else:
                sem_seg = 1 / (1 + np.exp(-maps[0])) > self.results['threshold']
        found: Result = dict(sem_seg=sem_seg.astype(int))
        return dict(**found, classes=self.classes) if self.classes else found

    def _detections(
        self,
        outputs: Sequence[np.ndarray],
        image: Prepared,
        shape: Sequence[int],
        score_thr: float,
    ) -> Result:
        if takes_image_size(self.metadata):
            boxes, scores, labels = outputs[:3]
            found = Detections(rescaled(boxes, image.scale_factor), scores, labels).sorted()
        elif 'is_final' in self.results:
            final = [output[0] for output in outputs]
            found = final_detections(final, image.pixels.shape[:2], image.scale_factor)
        else:
            boxes, scores, *factors = (output[0] for output in outputs)
            found = select(
                boxes,
                scores,
                factors[0] if factors else None,
                Selection(**self.results),
                shape,
                image.pixels.shape[:2],
                image.scale_factor,
            )
        found = found.take(found.scores >= score_thr)
        result: Result = dict(bboxes=found.boxes, labels=found.labels.astype(int))
        if self.classes:
            result['classes'] = class_names(found.labels, self.classes)
        if found.masks is not None:
            result['masks'] = pasted(
                found.masks, found.boxes, image.original_size, self.results['mask_thr']
            )
        return dict(**result, scores=found.scores.astype(np.float32))


def takes_image_size(metadata: Metadata) -> bool:
    """Whether a file has the size of the image as an input, for NMS at its end."""
    return 'nms' in metadata.include and 'is_final' not in metadata.results

"""Pictures of a report: truth, prediction and activation map of images side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import DATASETS
from pycocotools import mask as coco_masks
from torch import nn

from ..apis.inference import inference_model
from ..apis.results import to_truth
from ..datasets.image_pipeline import ImagePipeline
from ..deployment.exported_model import ExportedModel
from ..errors import UserError
from ..runtime.results import Result
from ..visualization.curves import plot_curves
from ..visualization.draw import add_legend, displayable, draw, num_panels
from ..visualization.figure import new_figure
from .activation_maps import METHODS, activation_map, overlay
from .predictions import Collected

_WIDTH = 900  #: of a picture, in pixels


class Pictures:
    """Draws truth, prediction and activation map of images.

    Args:
        config: The config.
        model: The model.
        collected: Predictions and ground truth.
        classes: Class names.
        threshold: Minimum score of drawn objects; None for classifiers and segmentors.
    """

    def __init__(
        self,
        config: Config,
        model: nn.Module,
        collected: Collected,
        classes: Sequence[str],
        threshold: float | None,
    ) -> None:
        self.config, self.model, self.collected = config, model, collected
        self.classes = classes
        self.threshold = threshold if threshold is not None else 0.0
        self.pipeline = ImagePipeline(model.cfg)
        self.images = {image.path: image for image in collected.images}

    def of(self, path: str, score: float) -> dict[str, str] | None:
        """Returns the picture of an image with its texts; None if it cannot be drawn."""
        try:
            image = self.pipeline.read(path)
            found: Any = inference_model(self.model, path, score_thr=self.threshold)
            truth = self._truth(path)
            heat, method = None, ''
            if not isinstance(self.model, ExportedModel):
                item = self.pipeline(path)
                is_classifier = self.collected.task == 'classification'
                heat = activation_map(self.model, item, is_classifier)
                method = METHODS['classification' if is_classifier else 'other']
            data = _picture(image, truth, found, heat)
        except Exception as error:  # one picture must not cost the others
            print_log(f'{path} cannot be drawn: {error}', 'current', 30)
            return None
        name, text = Path(path).name, self._text(path, score)
        alt = f'truth, prediction and activation map of {name}'
        if not method:
            alt = f'truth and prediction of {name}'
        return dict(data=data, name=name, text=text, alt=alt, method=method)

    def _text(self, path: str, score: float) -> str:
        if self.collected.task == 'classification':
            image = self.images[path]
            found = int(image.scores.argmax())
            return (
                f'is {self.classes[image.label]} ({score:.0%}), predicted {self.classes[found]} '
                f'({image.scores[found]:.0%})'
            )
        if self.collected.task == 'segmentation':
            return f'{score:.1%} of the pixels are right'
        return f'F1 {score:.2f}'

    def _truth(self, path: str) -> Result:
        image = self.images[path]
        if self.collected.task == 'classification':
            return dict(pred_label=image.label, pred_class=self.classes[image.label])
        if self.collected.task == 'segmentation':
            return self._true_mask(path)
        truth = image.truth
        result: Result = dict(bboxes=truth.bboxes, labels=truth.labels)
        result['classes'] = [str(self.classes[i]) for i in truth.labels]
        if truth.masks is not None:
            result['masks'] = [coco_masks.decode(m).astype(bool) for m in truth.masks]
        return result

    def _true_mask(self, path: str) -> Result:
        if not hasattr(self, '_dataset'):
            self._dataset = DATASETS.build(self.config.test_dataloader.dataset)
            infos = map(self._dataset.get_data_info, range(len(self._dataset)))
            self._index = {info['img_path']: i for i, info in enumerate(infos)}
        sample = self._dataset[self._index[path]]['data_samples']
        return to_truth(sample, self._dataset.metainfo)


def _picture(image: np.ndarray, truth: Result, found: Result, heat: np.ndarray | None) -> str:
    """Draws truth and prediction side by side, as a data URI."""
    shown = displayable(image)
    panels = num_panels(found)
    columns = [('truth', truth), ('prediction', found)]
    count = len(columns) + (heat is not None)
    height, width = shown.shape[:2]
    inches = _WIDTH / 100 / count
    figure = new_figure(inches * count, inches * height / width + 0.4)
    axes = figure.subplots(1, count, squeeze=False)[0].tolist()
    for axis, (title, result) in zip(axes, columns, strict=False):
        if panels == 2:  # only the overlay; the mask alone repeats it
            scratch = new_figure(1, 1).subplots()
            draw([scratch, axis], shown, result)
        else:
            draw([axis], shown, result)
        label = axis.get_title()
        axis.set_title(f'{title}: {label}' if label else title, fontsize=12)
    if heat is not None:
        size = tuple(np.maximum(heat.shape[::-1], (width, height)).tolist())
        large = cv2.resize(shown, size, interpolation=cv2.INTER_LINEAR)
        axes[-1].imshow(overlay(large, heat)[..., ::-1], extent=(0, width, height, 0))
        axes[-1].axis('off')
        axes[-1].set_title('activation', fontsize=12)
    add_legend(figure, [truth, found])
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=100, facecolor='white')
    return _as_jpeg(buffer.getvalue())


def _as_jpeg(png: bytes) -> str:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    _, content = cv2.imencode('.jpg', pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return 'data:image/jpeg;base64,' + base64.b64encode(content.tobytes()).decode()


def picture_of_curves(work_dir: str | Path | None) -> str | None:
    """Returns the training curves of a work folder as a data URI; None without a log."""
    if work_dir is None or not any(Path(work_dir).glob('*/vis_data/scalars.json')):
        return None
    with TemporaryDirectory() as folder, suppress(UserError):
        path = Path(folder, 'curves.png')
        plot_curves(work_dir, path)
        return _as_jpeg(path.read_bytes())
    return None

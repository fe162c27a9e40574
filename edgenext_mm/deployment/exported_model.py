"""Exported files in place of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from ..errors import UserError
from ..models.building import build_model
from ..runtime.boxes import Detections, Selection, final_detections, pasted, rescaled, select
from ..runtime.images import resize_labels
from ..runtime.model import takes_image_size
from .content import Session
from .file_formats import open_session
from .heads import find_head, predicts_whole, to_pixels, unflatten


class ExportedModel(nn.Module):
    """An exported file as a model, for ``inference_model`` and for mmengine's test loop.

    The model of the config in the file is built, and :class:`FileNetwork` replaces its network.
    What the file does not include, such as decoding or NMS, stays the code of the OpenMMLab
    libraries, but for the selection of boxes that a file has decoded (:mod:`~edgenext_mm.runtime`).

    Args:
        source: Path of a file from ``tools/deployment/export.py``, or an opened session.
        threads: Number of CPU threads. Default: the choice of the runtime.

    Raises:
        UserError: If the file cannot be read, or needs a module that cannot be imported.
    """

    def __init__(self, source: str | Path | Session, threads: int | None = None) -> None:
        super().__init__()
        self.session: Session = (
            open_session(source, threads) if isinstance(source, (str, Path)) else source
        )
        self.metadata = self.session.metadata
        self.cfg = Config(self.metadata.config)
        known = dict(classes=self.metadata.classes, palette=self.metadata.palette)
        self.dataset_meta = {name: value for name, value in known.items() if value}
        _import_parts(self.cfg.custom_imports, source)
        self.shell = build_model(self.cfg)
        self._pad_value = getattr(self.shell.data_preprocessor, 'pad_value', 0)
        network = FileNetwork(self.session, self._pad_value)
        self.shell.backbone = network
        if hasattr(self.shell, 'neck'):
            self.shell.neck = nn.Identity()
        self.head_name = find_head(self.shell)
        # The head keeps its decoding and loses its layers. A subclass would be needed for every
        # head of four libraries; the attributes are set on an object that was built here.
        if network.decodes_boxes:
            self.shell.predict = self._predict_boxes
        elif self.head_name == 'decode_head' and predicts_whole(self.shell):
            self.shell.encode_decode = lambda inputs, metas: network(inputs)
        else:
            self.shell.get_submodule(self.head_name).forward = lambda outputs: outputs
        self.eval()

    def _predict_boxes(self, inputs: Tensor, samples: list, rescale: bool = True) -> list:
        """Predicts boxes, in place of the ``predict`` of an mmdet detector."""
        network = self.shell.backbone
        found = network.predict_boxes(network(inputs), samples, rescale)
        return self.shell.add_pred_to_datasample(samples, found)

    def test_step(self, data: dict[str, Any]) -> list:
        """Predicts a batch, like :meth:`mmengine.model.BaseModel.test_step`."""
        with torch.no_grad():
            data = self.shell.data_preprocessor(data, False)
            if self.metadata.task == 'segmentation':
                data = self._pad_like_mmseg(data)
                if 'decode' in self.metadata.include:
                    return self._label_pixels(**data)
            return self.shell(**data, mode='predict')

    val_step = test_step

    def _pad_like_mmseg(self, data: dict[str, Any]) -> dict[str, Any]:
        """Pads preprocessed images to the size of the file, and records the padding.

        mmseg resizes the logits to the padded size and cuts the padding off. Without the record,
        it would squeeze the padded mask into the image.
        """
        images, shape = data['inputs'], self.metadata.shape
        height, width = images.shape[-2:]
        if self.shell.test_cfg.get('mode') == 'slide':  # the file takes crops of larger images
            shape = max(shape[0], height), max(shape[1], width)
        padded = fit_size(images, shape, self.metadata.dynamic, value=self._pad_value)
        right, below = padded.shape[-1] - width, padded.shape[-2] - height
        for sample in data['data_samples'] or []:
            meta = sample.metainfo
            padding = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
            padding = (padding[0], padding[1] + right, padding[2], padding[3] + below)
            if right or below:
                shape = tuple(padded.shape[-2:])
                sample.set_metainfo(dict(img_padding_size=padding, pad_shape=shape))
        return {**data, 'inputs': padded}

    def _label_pixels(self, inputs: Tensor, data_samples: list) -> list:
        """Sets the classes of the pixels of the original images from those of the input."""
        labels = self.shell.backbone(inputs)
        for sample, mask in zip(data_samples, labels.numpy(), strict=True):
            meta = sample.metainfo
            _, right, _, below = meta.get(
                'img_padding_size', meta.get('padding_size', (0, 0, 0, 0))
            )
            unpadded = mask[: mask.shape[0] - below, : mask.shape[1] - right]
            found = torch.from_numpy(resize_labels(unpadded, meta['ori_shape'][:2]))
            sample.pred_sem_seg = PixelData(data=found[None].long())
        return data_samples


class FileNetwork(nn.Module):
    """Runs a file in place of backbone, neck and the layers of the head.

    Args:
        session: The opened file.
        pad_value: Value to pad smaller images with.
    """

    def __init__(self, session: Session, pad_value: float) -> None:
        super().__init__()
        self.session = session
        self.metadata = session.metadata
        self.pad_value = pad_value
        self.takes_batches = 'batch' in self.metadata.dynamic
        self.takes_pixels = 'preprocess' in self.metadata.include
        self.decodes = 'decode' in self.metadata.include
        self.decodes_boxes = self.decodes and 'detection' in self.metadata.task

    def forward(self, x: Tensor) -> Any:
        """Returns the outputs of the head for normalised images.

        The selection of boxes also needs the sizes of the images: for files that decode boxes, it
        returns the padded images, for :meth:`predict_boxes`.
        """
        metadata = self.metadata
        pads = metadata.task != 'classification'
        images = fit_size(x, metadata.shape, metadata.dynamic, pads, self.pad_value)
        if self.decodes_boxes:
            return images
        outputs = self._run(images)
        if self.decodes and metadata.task == 'classification':
            outputs = [_logits(scores, metadata.results['activation']) for scores in outputs]
        return unflatten(outputs, metadata.structure)

    def _run(self, images: Tensor) -> list[Tensor]:
        """Returns the outputs for padded images."""
        if self.takes_pixels:
            images = to_pixels(images, self.metadata.preprocessing)
        parts = images.split(len(images) if self.takes_batches else 1)
        return [torch.cat(tensors) for tensors in zip(*map(self.session, parts), strict=True)]

    def predict_boxes(self, images: Tensor, samples: list, rescale: bool = False) -> list:
        """Predicts boxes, like the ``predict`` of an mmdet head.

        Args:
            images: (B, C, H, W) padded images.
            samples: Data samples with the sizes of the images.
            rescale: Whether boxes are in pixels of the original images. Default: False.
        """
        metas = [sample.metainfo for sample in samples]
        factors = [meta['scale_factor'][:2] if rescale else (1.0, 1.0) for meta in metas]
        sizes = [meta['img_shape'][:2] for meta in metas]
        find = self._decode
        if 'is_final' in self.metadata.results:
            find = self._final
        elif takes_image_size(self.metadata):
            find = self._select
        shapes = [meta['ori_shape'][:2] if rescale else meta['img_shape'][:2] for meta in metas]
        pairs = zip(find(images, sizes, factors), shapes, strict=True)
        return [self._instances(found, shape) for found, shape in pairs]

    def _instances(self, found: Detections, shape: tuple[int, int]) -> InstanceData:
        """Returns detections in an (H, W) image as mmdet's."""
        coordinates = 5 if self.metadata.task == 'rotated_detection' else 4
        instances = InstanceData(
            bboxes=torch.from_numpy(found.boxes).reshape(-1, coordinates),
            scores=torch.from_numpy(found.scores),
            labels=torch.from_numpy(found.labels).long(),
        )
        if found.masks is not None:
            threshold = self.metadata.results['mask_thr']
            masks = pasted(found.masks, found.boxes, shape, threshold)
            instances.masks = torch.from_numpy(masks)
        return instances

    def _final(self, images: Tensor, sizes: list, factors: list) -> Iterator[Detections]:
        """Yields the detections of each image, the final boxes of the file."""
        outputs = [output.numpy() for output in self._run(images)]
        for i, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
            yield final_detections([output[i] for output in outputs], size, factor)

    def _decode(self, images: Tensor, sizes: list, factors: list) -> Iterator[Detections]:
        """Yields the detections of each image, selected from all boxes of the file."""
        selection = Selection(**self.metadata.results)
        outputs = [output.numpy() for output in self._run(images)]
        for i, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
            boxes, scores, *quality = (output[i] for output in outputs)
            shape = images.shape[-2:]
            yield select(
                boxes, scores, quality[0] if quality else None, selection, shape, size, factor
            )

    def _select(self, images: Tensor, sizes: list, factors: list) -> Iterator[Detections]:
        """Yields the detections of each image, which the file has selected by NMS."""
        extra = dict(
            image_size=torch.tensor(sizes).float(), scale_factor=torch.tensor(factors).float()
        )
        if self.takes_pixels:
            images = to_pixels(images, self.metadata.preprocessing)
        if self.takes_batches or len(images) == 1:
            *values, image = (output.numpy() for output in self.session(images, extra))
            parts = [[value[image == i] for value in values] for i in range(len(images))]
        else:
            parts = [
                [
                    output.numpy()
                    for output in self.session(
                        images[i : i + 1], {k: v[i : i + 1] for k, v in extra.items()}
                    )[:3]
                ]
                for i in range(len(images))
            ]
        for (boxes, scores, labels), factor in zip(parts, factors, strict=True):
            yield Detections(rescaled(boxes, factor), scores, labels).sorted()


def _import_parts(imports: Mapping[str, Any], source: Any) -> None:
    """Imports the modules that register the parts of a file's model."""
    try:
        import_modules_from_strings(**imports)
    except ImportError as error:
        raise UserError(
            f'{source} needs a module that registers parts of its model and cannot be imported '
            f'here: {error}. It is one of the `custom_imports` of the config that the file was '
            f'exported with ({", ".join(imports["imports"])}). Add its folder to PYTHONPATH.'
        ) from error


def fit_size(
    x: Tensor,
    shape: tuple[int, int],
    dynamic: Sequence[str],
    pads: bool = True,
    value: float = 0,
) -> Tensor:
    """Pads images at the right and bottom to the fixed size of a file.

    Args:
        x: (B, C, H, W) images.
        shape: (H, W) of the file's input, in pixels.
        dynamic: Dimensions that may differ, of ``height`` and ``width``.
        pads: Whether smaller images may be padded; a classifier sees padding as part of the image.
            Default: True.
        value: Padding value. Default: 0.

    Raises:
        UserError: If an image is too large, or smaller and must not be padded.
    """
    height = x.shape[-2] if 'height' in dynamic else shape[0]
    width = x.shape[-1] if 'width' in dynamic else shape[1]
    right, below = width - x.shape[-1], height - x.shape[-2]
    size = f'{x.shape[-2]}x{x.shape[-1]}'
    if right < 0 or below < 0:
        raise UserError(
            f'The file takes images of up to {height}x{width} pixels after resizing, got '
            f'{size}. Export it with a larger --shape, or with --dynamic height,width.'
        )
    if (right or below) and not pads:
        raise UserError(
            f'The file takes images of {height}x{width} pixels after resizing, got {size}. A '
            'classifier sees padding as part of the image: resize or crop to one size in the '
            'test pipeline and export with that --shape, or with --dynamic height,width.'
        )
    return F.pad(x, (0, right, 0, below), value=value).contiguous()


def _logits(scores: Tensor, activation: str) -> Tensor:
    """Returns logits that lead to the scores of a classifier."""
    return scores.logit(1e-7) if activation == 'sigmoid' else scores.clamp_min(1e-30).log()

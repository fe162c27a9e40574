"""Exported files in the place of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import InstanceData
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from ..errors import UserError
from ..models.building import build_model
from .file_formats import Session, open_session
from .heads import find_head, unflatten


class ExportedModel(nn.Module):
    """An exported file as a model: for ``inference_model``, and for mmengine's test loop.

    What comes before and after the network, normalisation, decoding, NMS and sizes, is done by the
    libraries as for the model itself, by the config in the file.

    Args:
        source: Path of a file that ``tools/deployment/export.py`` wrote, or an opened one.
        threads: CPU threads. Default: the runtime's own choice.

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
        self.name = find_head(self.shell)
        head = self.shell.get_submodule(self.name)
        # Upstream's flow stays: features are the outputs of the file, the head passes them on.
        for part in ('backbone', 'neck'):
            if hasattr(self.shell, part):
                setattr(self.shell, part, nn.Identity())
        if self.metadata.decoded:
            self.shell.extract_feat = self._fit
            head.predict = self._predict_boxes
        else:
            self.shell.extract_feat = self._raw_outputs
            head.forward = lambda outputs: outputs
        self.eval()

    def test_step(self, data: dict[str, Any]) -> list:
        """As :meth:`mmengine.model.BaseModel.test_step`."""
        with torch.no_grad():
            return self.shell(
                **self._pad(self.shell.data_preprocessor(data, False)), mode='predict'
            )

    val_step = test_step

    def _pad(self, data: dict[str, Any]) -> dict[str, Any]:
        """Pads preprocessed images to the size of the file, and records it as mmseg does.

        mmseg resizes what its head gives to the padded size, and cuts the padding off: without the
        record, it would squeeze the padded mask into the image.
        """
        images, metadata = data['inputs'], self.metadata
        if metadata.task != 'segmentation':
            return data
        height, width = images.shape[-2:]
        shape = metadata.shape
        if self.shell.test_cfg.get('mode') == 'slide':  # the file takes crops of larger images
            shape = max(shape[0], height), max(shape[1], width)
        padded = fit_size(images, shape, metadata.dynamic, value=self._pad_value())
        right, below = padded.shape[-1] - width, padded.shape[-2] - height
        if right or below:
            for sample in data['data_samples'] or []:
                meta = sample.metainfo
                before = meta.get('img_padding_size', meta.get('padding_size', (0, 0, 0, 0)))
                padding = (before[0], before[1] + right, before[2], before[3] + below)
                sample.set_metainfo(
                    dict(img_padding_size=padding, pad_shape=tuple(padded.shape[-2:]))
                )
        return {**data, 'inputs': padded}

    def _pad_value(self) -> float:
        return getattr(self.shell.data_preprocessor, 'pad_value', 0)

    def _fit(self, x: Tensor) -> Tensor:
        metadata = self.metadata
        pads = metadata.task != 'classification'
        return fit_size(x, metadata.shape, metadata.dynamic, pads, self._pad_value())

    def _raw_outputs(self, x: Tensor, *_: Any, **__: Any) -> Any:
        """What the head gives for normalised images; one by one where the file wants so."""
        images = self._fit(x)
        if 'batch' in self.metadata.dynamic or len(images) == 1:
            return unflatten(self.session(images), self.metadata.structure)
        parts = [self.session(image) for image in images.split(1)]
        outputs = [torch.cat(tensors) for tensors in zip(*parts, strict=True)]
        return unflatten(outputs, self.metadata.structure)

    def _predict_boxes(self, images: Tensor, samples: list, rescale: bool = False) -> list:
        """A head's ``predict`` from boxes that have been through NMS in the file."""
        metas = [sample.metainfo for sample in samples]
        sizes = torch.tensor([meta['img_shape'][:2] for meta in metas], dtype=torch.float32)
        scales = [meta['scale_factor'] if rescale else (1.0, 1.0) for meta in metas]
        extra = dict(image_size=sizes, scale_factor=torch.tensor(scales, dtype=torch.float32))
        if 'batch' in self.metadata.dynamic or len(images) == 1:
            boxes, scores, labels, image = self.session(images, extra)
            found = [(boxes[i], scores[i], labels[i]) for i in map(image.eq, range(len(metas)))]
        else:
            found = [
                tuple(self.session(images[i : i + 1], _row(extra, i))[:3])
                for i in range(len(metas))
            ]
        return [_instances(*parts, scale) for parts, scale in zip(found, scales, strict=True)]


def _row(inputs: Mapping[str, Tensor], i: int) -> dict[str, Tensor]:
    return {name: value[i : i + 1] for name, value in inputs.items()}


def _instances(
    boxes: Tensor, scores: Tensor, labels: Tensor, scale: tuple[float, float]
) -> InstanceData:
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order] / boxes.new_tensor(scale).repeat(2)
    return InstanceData(bboxes=boxes, scores=scores[order], labels=labels[order])


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
    """Pads images right and below to the size that a file takes, where it is fixed.

    Args:
        x: (B, C, H, W) images.
        shape: (H, W) that the file takes.
        dynamic: Which of ``height`` and ``width`` may differ.
        pads: Whether smaller images may be padded; classifiers see padding as part of the image.
            Default: True.
        value: What to pad with. Default: 0.

    Raises:
        UserError: If an image is too large, or smaller and not to be padded.
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

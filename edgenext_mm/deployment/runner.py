"""Exported files in the place of models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..apis.model import build_model
from ..errors import UserError
from .formats import Session, open_session
from .heads import find_head, unflatten


class Runner(nn.Module):
    """An exported file as a model: for ``inference_model``, and for mmengine's test loop.

    What comes before and after the network, normalisation, decoding, NMS and sizes, is done by the
    libraries as for the model itself, by the config in the file.

    Args:
        path: Of a file that ``tools/deployment/export.py`` wrote.
        threads: CPU threads. Default: the runtime's own choice.

    Raises:
        UserError: If the file cannot be read.
    """

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        super().__init__()
        self.session = open_session(path, threads)
        self.metadata = self.session.metadata
        self.cfg = Config(self.metadata.config)
        known = dict(classes=self.metadata.classes, palette=self.metadata.palette)
        self.dataset_meta = {name: value for name, value in known.items() if value}
        self.shell = build_model(self.cfg)
        self.name = find_head(self.shell)
        network = _NetworkOfFile(self.session)
        # Upstream's flow stays: features are the outputs of the file, the head passes them on.
        self.shell.extract_feat = network.outputs
        head = self.shell.get_submodule(self.name)
        for part in ('backbone', 'neck'):
            if hasattr(self.shell, part):
                setattr(self.shell, part, nn.Identity())
        if self.metadata.decoded:
            head.predict = network.boxes(head)
        else:
            head.forward = lambda outputs: outputs
        self.eval()

    def test_step(self, data: dict[str, Any]) -> list:
        """As :meth:`mmengine.model.BaseModel.test_step`."""
        with torch.no_grad():
            return self.shell.test_step(data)

    val_step = test_step


class _NetworkOfFile:
    """The network of a file, behind the names that models call."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def outputs(self, x: Tensor, *_: Any, **__: Any) -> Any:
        """What the head gives for normalised images; batches in parts where the file wants so."""
        metadata = self.session.metadata
        images = fit_size(x, metadata.shape, metadata.dynamic)
        if 'batch' in metadata.dynamic or len(images) == 1:
            return self._arranged(self.session(images))
        parts = [self.session(image) for image in images.split(1)]
        if metadata.decoded:
            for i, part in enumerate(parts):
                part[3] = torch.full_like(part[3], i)
        return self._arranged([torch.cat(tensors) for tensors in zip(*parts, strict=True)])

    def _arranged(self, outputs: Sequence[Tensor]) -> Any:
        metadata = self.session.metadata
        return outputs if metadata.decoded else unflatten(outputs, metadata.outputs)

    def boxes(self, head: nn.Module) -> Any:
        """A ``predict`` for boxes that have been through NMS."""

        def predict(outputs: Sequence[Tensor], samples: list, rescale: bool = False) -> list:
            boxes, scores, labels, image = outputs
            return [
                _instances(
                    boxes[image == i],
                    scores[image == i],
                    labels[image == i],
                    sample.metainfo,
                    head.test_cfg.get('max_per_img', 100),
                    rescale,
                )
                for i, sample in enumerate(samples)
            ]

        return predict


def _instances(
    boxes: Tensor, scores: Tensor, labels: Tensor, meta: dict, count: int, rescale: bool
) -> InstanceData:
    order = scores.argsort(descending=True, stable=True)[:count]
    boxes = boxes[order]
    height, width = meta['img_shape'][:2]
    boxes[:, 0::2].clamp_(0, width)
    boxes[:, 1::2].clamp_(0, height)
    if rescale:
        boxes = boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)
    return InstanceData(bboxes=boxes, scores=scores[order], labels=labels[order])


def fit_size(x: Tensor, shape: tuple[int, int], dynamic: Sequence[str]) -> Tensor:
    """Pads images right and below to the size that a file wants, where it wants one."""
    height = x.shape[-2] if 'height' in dynamic else shape[0]
    width = x.shape[-1] if 'width' in dynamic else shape[1]
    if x.shape[-2] > height or x.shape[-1] > width:
        raise UserError(
            f'The file takes images of up to {height}x{width} pixels after resizing, got '
            f'{x.shape[-2]}x{x.shape[-1]}. Export it with a larger --shape, or with --dynamic '
            'height,width.'
        )
    return F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2])).contiguous()

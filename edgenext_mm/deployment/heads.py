"""What of a model goes into a file: from normalised images to what its head gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError

#: Where models of each task keep their head, and what its outputs are called.
HEADS = {
    'head': ('logits',),
    'decode_head': ('logits',),
    'bbox_head': ('cls_score', 'bbox_pred', 'angle_pred'),
}
#: What PyTorch calls the precisions that it computes in.
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}


def find_head(model: nn.Module) -> str:
    """The name of a model's head.

    Raises:
        UserError: If its task is done in more than one step.
    """
    for name in HEADS:
        if isinstance(getattr(model, name, None), nn.Module) and not hasattr(model, 'roi_head'):
            return name
    raise UserError(
        f'A {type(model).__name__} cannot be exported: a model with one head can '
        f'({", ".join(HEADS)}), two-stage detectors cannot. Choose a classifier, a single-stage '
        'detector such as SSDLite, GFL or RetinaNet, or a segmentor.'
    )


class Network(nn.Module):
    """A model from its normalised (B, 3, H, W) images to the tensors that its head gives, in order.

    Args:
        model: Any model of one head, as OpenMMLab builds it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.head_name = find_head(model)
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The outputs, those of several levels one after the other."""
        return flatten(self.model.get_submodule(self.head_name)(self.model.extract_feat(x)))

    def names(self, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs, such as ``cls_score_0``."""
        kinds = HEADS[self.head_name]
        if len(outputs) == 1:
            return [kinds[0]]
        levels = len(self.model.get_submodule(self.head_name).prior_generator.strides)
        used = kinds[: len(outputs) // levels]
        return [f'{kind}_{level}' for kind in used for level in range(levels)]


class Cast(nn.Module):
    """A network in another precision, with single precision around it.

    Args:
        network: Changed to that precision.
        precision: One of :data:`DTYPES`.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.dtype = DTYPES[precision]
        self.network = network.to(self.dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """As the network's."""
        outputs = self.network(x.to(self.dtype))
        return tuple(o.float() if o.is_floating_point() else o for o in outputs)


def flatten(outputs: Any) -> tuple[Tensor, ...]:
    """The tensors in nested tuples and lists, in order."""
    if isinstance(outputs, Tensor):
        return (outputs,)
    return tuple(tensor for part in outputs for tensor in flatten(part))


def unflatten(outputs: Sequence[Tensor], names: Sequence[str]) -> Any:
    """What :func:`flatten` was given, from its result and the names of it."""
    if len(names) == 1:
        return outputs[0]
    kinds = list(dict.fromkeys(name.rpartition('_')[0] for name in names))
    return tuple(
        [o for o, name in zip(outputs, names, strict=True) if name.rpartition('_')[0] == kind]
        for kind in kinds
    )


class BoxNetwork(Network):
    """A single-stage detector of mmdet from images to its best boxes of each level, before NMS.

    What the head's own ``predict_by_feat`` does up to there, for a batch and without conditions on
    the data, so that it can stand in a file.

    Args:
        model: The detector.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if self.head_name != 'bbox_head' or not hasattr(model.bbox_head, 'bbox_coder'):
            raise UserError(f'The head of a {type(model).__name__} has no boxes to decode.')
        if getattr(model.bbox_head.bbox_coder, 'encode_size', 4) != 4:
            raise UserError(
                'Rotated boxes are decoded where the file runs: export the raw heads instead.'
            )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, K, 4) corners in pixels of the input, (B, K) scores and (B, K) labels."""
        head = self.model.bbox_head
        cls_scores, bbox_preds = head(self.model.extract_feat(x))[:2]
        sizes = [score.shape[-2:] for score in cls_scores]
        priors = head.prior_generator.grid_priors(sizes, dtype=x.dtype, device=x.device)
        levels = [
            self._level(*level, (x.shape[-2], x.shape[-1]))
            for level in zip(cls_scores, bbox_preds, priors, self._strides(), strict=True)
        ]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        return boxes, scores, labels

    def _level(
        self, cls_score: Tensor, bbox_pred: Tensor, priors: Tensor, stride: int, size: tuple
    ) -> tuple[Tensor, Tensor, Tensor]:
        head, B = self.model.bbox_head, cls_score.shape[0]
        classes = head.cls_out_channels
        scores = cls_score.permute(0, 2, 3, 1).reshape(B, -1, classes)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        classes = scores.shape[-1]
        count = min(self.model.test_cfg.get('nms_pre', 1000), priors.shape[0] * classes)
        scores, index = scores.flatten(1).topk(count, dim=1)
        place, labels = index // classes, index % classes
        bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(B, priors.shape[0], -1)
        bbox_pred = bbox_pred.gather(1, place[..., None].expand(-1, -1, bbox_pred.shape[-1]))
        priors = priors[place]
        if hasattr(head, 'integral'):  # GFL: distributions over distances from the centre
            bins = bbox_pred.reshape(B, count, 4, -1).softmax(-1)
            bbox_pred = (bins * head.integral.project).sum(-1) * stride
            priors = (priors[..., :2] + priors[..., 2:]) / 2
        # Not clamped by the coder, whose way for ONNX imports what mmdet no longer has.
        boxes = head.bbox_coder.decode(priors.flatten(0, 1), bbox_pred.flatten(0, 1))
        x, y = boxes[:, 0::2].clamp(0, size[1]), boxes[:, 1::2].clamp(0, size[0])
        boxes = torch.stack((x, y), dim=-1).reshape(B, count, 4)
        return boxes, scores, labels

    def _strides(self) -> list[int]:
        return [stride[0] for stride in self.model.bbox_head.prior_generator.strides]

    def names(self, outputs: Sequence[Tensor]) -> list[str]:
        """Names of the outputs."""
        return ['boxes', 'scores', 'labels']

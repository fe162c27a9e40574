"""Single-stage detectors of mmdet from images to boxes, as far as it can stand in a file.

A file holds what ``BaseDenseHead.predict_by_feat`` does, for a batch and without branches that
depend on the data. Heads that predict in another way are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .heads import Cast, Network

#: What stands in a file for a box that was filtered out. Scores are at least 0.
NO_SCORE = -1.0
#: Coordinates that are larger than any image, and still finite in half precision.
UNLIMITED = 65504.0
#: The methods of mmdet's ``BaseDenseHead`` that turn raw outputs into boxes.
STEPS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')


class Selection(NamedTuple):
    """Which boxes of a detector remain, from a head's ``test_cfg``.

    Args:
        score_thr: Class scores up to this are dropped, before score factors are applied.
        nms_pre: The most boxes of a level before NMS.
        iou_threshold: Of NMS.
        class_agnostic: Whether boxes of different classes suppress each other.
        max_per_img: The most boxes of an image after NMS.
        min_bbox_size: Boxes whose width or height in the original image is at most this are
            dropped; None keeps all.
        clip: Whether boxes are clipped to the image.
    """

    score_thr: float
    nms_pre: int
    iou_threshold: float
    class_agnostic: bool
    max_per_img: int
    min_bbox_size: float | None
    clip: bool


def read_selection(model: nn.Module) -> Selection:
    """How a detector selects its boxes.

    Raises:
        UserError: If it does so in a way that a file cannot reproduce.
    """
    head: Any = getattr(model, 'bbox_head', None)
    if not hasattr(head, 'bbox_coder'):
        raise _refusal(model, 'its head has no boxes to decode')
    from mmdet.models import GFLHead, SingleStageDetector
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    if head.bbox_coder.encode_size != 4:
        raise _refusal(model, 'rotated boxes are decoded where the file runs')
    if not isinstance(head, BaseDenseHead) or type(model).predict is not (
        SingleStageDetector.predict
    ):
        raise _refusal(model, 'it predicts in a way of its own')
    changed = [
        name
        for name in STEPS
        if getattr(type(head), name) is not getattr(BaseDenseHead, name)
        and not (isinstance(head, GFLHead) and getattr(type(head), name) is getattr(GFLHead, name))
    ]
    if changed:
        raise _refusal(
            model, f'its {type(head).__name__} has its own `{changed[0]}`, which no file reproduces'
        )
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise _refusal(model, f'its loss {type(head.loss_cls).__name__} activates the scores')
    coder = head.bbox_coder
    if type(coder).__name__ not in (
        'DeltaXYWHBBoxCoder',
        'DistancePointBBoxCoder',
        'TBLRBBoxCoder',
    ):
        raise _refusal(model, f'its boxes are coded by a {type(coder).__name__}')
    return _read_test_cfg(model, head.test_cfg or {}, coder.clip_border)


def default_inputs(count: int) -> dict[str, Tensor]:
    """The further inputs of files with boxes after NMS, for images as large as the input.

    Args:
        count: Of images.

    Returns:
        ``image_size``, (count, 2) heights and widths without padding, and ``scale_factor``,
        (count, 2) factors by which widths and heights were multiplied.
    """
    return dict(image_size=torch.full((count, 2), UNLIMITED), scale_factor=torch.ones((count, 2)))


def _read_test_cfg(model: nn.Module, settings: Mapping[str, Any], clip: bool) -> Selection:
    nms = dict(settings.get('nms') or {})
    if 'iou_thr' in nms:  # the name that mmcv used before
        nms.setdefault('iou_threshold', nms.pop('iou_thr'))
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr', 'offset', 'max_num'}
    if nms.get('type', 'nms') != 'nms' or nms.get('offset', 0) or set(nms) - known:
        raise _refusal(
            model, f'`test_cfg.nms` is {nms}; a file has NMS of type nms, with iou_threshold'
        )
    if 'iou_threshold' not in nms:
        raise _refusal(model, '`test_cfg.nms` has no `iou_threshold`')
    for key in ('nms_pre', 'max_per_img'):
        if settings.get(key, -1) < 1:
            raise _refusal(
                model,
                f'`test_cfg.{key}` is {settings.get(key)}; set a positive number, for instance '
                f'with --cfg-options model.test_cfg.{key}=1000',
            )
    smallest = settings.get('min_bbox_size', -1)
    limit = settings['max_per_img']
    if nms.get('max_num', -1) > 0:
        limit = min(limit, nms['max_num'])
    return Selection(
        score_thr=settings.get('score_thr', 0),
        nms_pre=settings['nms_pre'],
        iou_threshold=nms['iou_threshold'],
        class_agnostic=nms.get('class_agnostic', False),
        max_per_img=limit,
        min_bbox_size=smallest if smallest >= 0 else None,
        clip=clip,
    )


def _refusal(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'Boxes after NMS cannot be exported from this {type(model).__name__}: {reason}. Without '
        '--decode, export the raw heads instead: boxes are then decoded where the file runs.'
    )


class BoxNetwork(nn.Module):
    """A single-stage detector from images to the best boxes of each level, before NMS.

    Args:
        model: The detector.

    Raises:
        UserError: If a file cannot reproduce how it predicts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.selection = read_selection(model)
        self.network: nn.Module = Network(model)
        self.head_name = 'bbox_head'
        self.model = model

    def cast(self, precision: str) -> nn.Module:
        """The network in another precision; boxes stay in single precision, in whole pixels."""
        self.network = Cast(self.network, precision)
        return self

    def nested(self, x: Tensor) -> Any:
        """See :meth:`forward`."""
        return self(x)

    def names(self, nested: Any) -> list[str]:
        """Names of the outputs."""
        return ['boxes', 'scores', 'labels']

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes of a batch of images.

        Args:
            x: (B, C, H, W) normalised images.

        Returns:
            (B, K, 4) corners in pixels of the input, (B, K) scores and (B, K) labels. Boxes that
            were filtered out have the score :data:`NO_SCORE`.
        """
        head = self.model.bbox_head
        strides = [stride[0] for stride in head.prior_generator.strides]
        outputs = self.network(x)
        kinds = [outputs[i : i + len(strides)] for i in range(0, len(outputs), len(strides))]
        if len(kinds) not in (2, 3) or len(outputs) % len(strides):
            raise _refusal(
                self.model,
                f'its {type(head).__name__} gives {len(outputs)} maps for {len(strides)} levels, '
                'not scores, boxes and perhaps one score factor for each',
            )
        cls_scores, bbox_preds = kinds[:2]
        factors = kinds[2] if len(kinds) == 3 else [None] * len(strides)
        sizes = [score.shape[-2:] for score in cls_scores]
        priors = head.prior_generator.grid_priors(sizes, dtype=x.dtype, device=x.device)
        levels = [
            self._level(*level)
            for level in zip(cls_scores, bbox_preds, factors, priors, strides, strict=True)
        ]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        if self.selection.clip:
            horizontal = boxes[..., 0::2].clamp(0, x.shape[-1])
            vertical = boxes[..., 1::2].clamp(0, x.shape[-2])
            boxes = torch.stack((horizontal, vertical), dim=-1).flatten(-2)
        return boxes, scores, labels

    def _level(
        self, cls_score: Tensor, bbox_pred: Tensor, factor: Tensor | None, priors: Tensor,
        stride: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        head, B = self.model.bbox_head, cls_score.shape[0]
        scores = cls_score.permute(0, 2, 3, 1).reshape(B, -1, head.cls_out_channels)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(-1)[..., :-1]
        classes = scores.shape[-1]
        count = min(self.selection.nms_pre, priors.shape[0] * classes)
        scores, index = scores.flatten(1).topk(count, dim=1)
        place, labels = index // classes, index % classes
        found = scores > self.selection.score_thr
        if factor is not None:
            factor = factor.permute(0, 2, 3, 1).reshape(B, -1).sigmoid()
            scores = scores * factor.gather(1, place)
        scores = torch.where(found, scores, torch.full_like(scores, NO_SCORE))
        bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(B, priors.shape[0], -1)
        bbox_pred = bbox_pred.gather(1, place[..., None].expand(-1, -1, bbox_pred.shape[-1]))
        priors = priors[place]
        if hasattr(head, 'integral'):  # GFL: distributions over distances from the centre
            bins = bbox_pred.reshape(B, count, 4, -1).softmax(-1)
            bbox_pred = (bins * head.integral.project.to(bins)).sum(-1) * stride
            priors = (priors[..., :2] + priors[..., 2:]) / 2
        boxes = head.bbox_coder.decode(priors.flatten(0, 1), bbox_pred.flatten(0, 1))
        return boxes.reshape(B, count, 4), scores, labels

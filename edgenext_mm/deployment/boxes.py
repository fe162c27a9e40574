"""Single-stage detectors of mmdet from images to boxes, for files with NMS.

:class:`BoxNetwork` computes what ``BaseDenseHead.predict_by_feat`` does, for a batch and without
branches that depend on the data. Heads that predict in another way are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .heads import Cast, Network

#: The score of a box that was filtered out; real scores are at least 0.
NO_SCORE = -1.0
#: Image size without a limit: larger than any image, and finite in half precision.
UNLIMITED = 65504.0
#: Methods of mmdet's ``BaseDenseHead`` that turn raw outputs into boxes.
STEPS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
CODERS = ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder', 'TBLRBBoxCoder')


class Selection(NamedTuple):
    """How a detector selects its boxes, from the ``test_cfg`` of its head.

    Args:
        score_thr: Boxes are kept if their class score, before score factors, is above this.
        nms_pre: Maximum number of boxes per level before NMS.
        iou_threshold: IoU above which NMS suppresses a box.
        class_agnostic: Whether boxes of different classes suppress each other.
        max_per_img: Maximum number of boxes per image after NMS.
        min_bbox_size: Boxes are kept if width and height, in pixels of the original image, are
            above this; None keeps all.
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
    """Reads how a detector selects its boxes.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """
    head: Any = getattr(model, 'bbox_head', None)
    if not hasattr(head, 'bbox_coder'):
        raise _refusal(model, 'its head has no `bbox_coder` to decode boxes with')
    from mmdet.models import GFLHead, SingleStageDetector
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    kind, coder = type(head), head.bbox_coder
    if coder.encode_size != 4:
        raise _refusal(model, 'rotated boxes are only decoded where the file runs')
    if not issubclass(kind, BaseDenseHead) or type(model).predict is not (
        SingleStageDetector.predict
    ):
        raise _refusal(model, 'it does not predict like mmdet.SingleStageDetector')
    known = (BaseDenseHead, GFLHead) if issubclass(kind, GFLHead) else (BaseDenseHead,)
    for step in STEPS:
        if all(getattr(kind, step) is not getattr(base, step) for base in known):
            raise _refusal(
                model,
                f'its {kind.__name__} overrides `{step}`, which a file does not reproduce',
            )
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise _refusal(model, f'its loss {type(head.loss_cls).__name__} activates the scores')
    if type(coder).__name__ not in CODERS:
        raise _refusal(model, f'it has a {type(coder).__name__}; supported are {", ".join(CODERS)}')
    return _read_test_cfg(model, head.test_cfg or {}, coder.clip_border)


def _read_test_cfg(model: nn.Module, settings: Mapping[str, Any], clip: bool) -> Selection:
    nms = dict(settings.get('nms') or {})
    if 'iou_thr' in nms:  # the former name in mmcv
        nms.setdefault('iou_threshold', nms.pop('iou_thr'))
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr', 'offset', 'max_num'}
    if nms.get('type', 'nms') != 'nms' or nms.get('offset', 0) or set(nms) - known:
        raise _refusal(
            model, f'`test_cfg.nms` is {nms}; a file supports type nms with an iou_threshold'
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
    limit, min_size = settings['max_per_img'], settings.get('min_bbox_size', -1)
    if nms.get('max_num', -1) > 0:
        limit = min(limit, nms['max_num'])
    return Selection(
        score_thr=settings.get('score_thr', 0),
        nms_pre=settings['nms_pre'],
        iou_threshold=nms['iou_threshold'],
        class_agnostic=nms.get('class_agnostic', False),
        max_per_img=limit,
        min_bbox_size=min_size if min_size >= 0 else None,
        clip=clip,
    )


def _refusal(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'Boxes after NMS cannot be exported from this {type(model).__name__}: {reason}. Without '
        '--decode, export the raw heads instead: boxes are then decoded where the file runs.'
    )


def default_inputs(batch_size: int) -> dict[str, Tensor]:
    """Returns the other inputs of files with NMS, for images without padding and resizing.

    Returns:
        ``image_size``, (B, 2) heights and widths without padding, and ``scale_factor``, (B, 2)
        factors by which widths and heights were multiplied.
    """
    return dict(
        image_size=torch.full((batch_size, 2), UNLIMITED), scale_factor=torch.ones(batch_size, 2)
    )


class BoxNetwork(Network):
    """Maps normalised images to the best boxes of each level, before NMS.

    Args:
        model: A single-stage detector.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.selection = read_selection(model)
        self.raw: nn.Module = Network(model)

    def cast(self, precision: str) -> nn.Module:
        """Converts the network; boxes stay in float32 and in whole pixels."""
        self.raw = Cast(self.raw, precision)
        return self

    def names(self, nested: Any) -> list[str]:
        """Names the outputs."""
        return ['boxes', 'scores', 'labels']

    def nested(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predicts boxes for a batch of images.

        Args:
            x: (B, C, H, W) normalised images.

        Returns:
            (B, K, 4) corners in pixels of the input, (B, K) scores and (B, K) labels. Boxes that
            were filtered out have the score :data:`NO_SCORE`.
        """
        head = self.model.bbox_head
        strides = [stride[0] for stride in head.prior_generator.strides]
        outputs = self.raw(x)
        kinds = [outputs[i : i + len(strides)] for i in range(0, len(outputs), len(strides))]
        if len(kinds) not in (2, 3) or len(outputs) % len(strides):
            raise _refusal(
                self.model,
                f'its {type(head).__name__} returns {len(outputs)} maps for {len(strides)} levels; '
                'supported are scores and boxes, and optionally a score factor, for each level',
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
        position, labels = index // classes, index % classes
        found = scores > self.selection.score_thr
        if factor is not None:
            factor = factor.permute(0, 2, 3, 1).reshape(B, -1).sigmoid()
            scores = scores * factor.gather(1, position)
        scores = torch.where(found, scores, torch.full_like(scores, NO_SCORE))
        bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(B, priors.shape[0], -1)
        bbox_pred = bbox_pred.gather(1, position[..., None].expand(-1, -1, bbox_pred.shape[-1]))
        priors = priors[position]
        if hasattr(head, 'integral'):  # GFL: distributions over distances from the centre
            bins = bbox_pred.reshape(B, count, 4, -1).softmax(-1)
            bbox_pred = (bins * head.integral.project.to(bins)).sum(-1) * stride
            priors = (priors[..., :2] + priors[..., 2:]) / 2
        boxes = head.bbox_coder.decode(priors.flatten(0, 1), bbox_pred.flatten(0, 1))
        return boxes.reshape(B, count, 4), scores, labels

"""Single-stage detectors from images to boxes, for files that decode boxes.

Both networks compute what ``BaseDenseHead.predict_by_feat`` of mmdet does, for a batch and without
branches that depend on the data. Heads that predict in another way are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..runtime.boxes import NO_SCORE, Selection
from .heads import DTYPES, Network, flatten

#: Methods of mmdet's ``BaseDenseHead`` that turn raw outputs into boxes.
STEPS = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
#: Box coders by the number of coordinates of their boxes.
CODERS = {
    4: ('DeltaXYWHBBoxCoder', 'DistancePointBBoxCoder', 'TBLRBBoxCoder'),
    5: ('DeltaXYWHTRBBoxCoder', 'DistanceAnglePointCoder'),
}
#: More boxes than any image has.
UNLIMITED_BOXES = 10**6
#: First angle of the ranges of mmrotate that span half a turn.
ANGLE_STARTS = {'le90': -math.pi / 2, 'le135': -math.pi / 4}
NMS_TYPES = {4: 'nms', 5: 'nms_rotated'}


def read_selection(model: nn.Module) -> Selection:
    """Reads how a detector selects its boxes.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """
    head: Any = getattr(model, 'bbox_head', None)
    if predicts_one_label(head):
        return _read_yolox(model)
    if not hasattr(head, 'bbox_coder'):
        raise _refusal(model, 'its head has no `bbox_coder` to decode boxes with')
    from mmdet.models import SingleStageDetector
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    kind, coder, size = type(head), head.bbox_coder, box_size(head)
    if size not in CODERS:
        raise _refusal(model, f'its boxes have {size} coordinates')
    if not issubclass(kind, BaseDenseHead) or type(model).predict is not (
        SingleStageDetector.predict
    ):
        raise _refusal(model, 'it does not predict like mmdet.SingleStageDetector')
    bases = _known_heads(head)
    for step in STEPS:
        if all(getattr(kind, step) is not getattr(base, step) for base in bases):
            raise _refusal(
                model,
                f'its {kind.__name__} overrides `{step}`, which a file does not reproduce',
            )
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        raise _refusal(model, f'its loss {type(head.loss_cls).__name__} activates the scores')
    if type(coder).__name__ not in (known := CODERS[size]):
        raise _refusal(model, f'it has a {type(coder).__name__}; supported are {", ".join(known)}')
    return _read_test_cfg(model, head.test_cfg or {})


def box_size(head: Any) -> int:
    """Returns the number of coordinates of a box of a head."""
    return 5 if hasattr(head, 'angle_coder') else head.bbox_coder.encode_size


def _known_heads(head: Any) -> tuple[type, ...]:
    """Returns the classes whose prediction a file reproduces for a head."""
    from mmdet.models import GFLHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    if isinstance(head, GFLHead):
        return BaseDenseHead, GFLHead
    if type(getattr(head, 'angle_coder', None)).__name__ == 'PseudoAngleCoder':
        from mmrotate.models import RotatedFCOSHead, RotatedRTMDetHead

        return BaseDenseHead, RotatedRTMDetHead, RotatedFCOSHead
    return (BaseDenseHead,)


def predicts_one_label(head: Any) -> bool:
    """Whether a head only considers the best class of each box, as YOLOX does."""
    from mmdet.models import YOLOXHead

    return isinstance(head, YOLOXHead) and all(
        getattr(type(head), step) is getattr(YOLOXHead, step) for step in STEPS
    )


def _read_yolox(model: nn.Module) -> Selection:
    """Reads how YOLOX selects its boxes: without limits, among boxes of one class each."""
    head = model.bbox_head
    return Selection(
        score_thr=head.test_cfg.score_thr,
        nms_pre=UNLIMITED_BOXES,
        **_read_nms(model, head.test_cfg, NMS_TYPES[4]),
        max_per_img=UNLIMITED_BOXES,
        min_bbox_size=None,
        clip=False,
        strides=tuple(stride[0] for stride in head.prior_generator.strides),
        num_priors=tuple(head.prior_generator.num_base_priors),
    )


def _read_nms(model: nn.Module, settings: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns the settings of NMS of a type."""
    nms = dict(settings.get('nms') or {})
    if 'iou_thr' in nms:  # the former name in mmcv
        nms.setdefault('iou_threshold', nms.pop('iou_thr'))
    known = {'type', 'iou_threshold', 'class_agnostic', 'split_thr', 'offset', 'max_num'}
    if nms.get('type', 'nms') != kind or nms.get('offset', 0) or set(nms) - known:
        raise _refusal(
            model, f'`test_cfg.nms` is {nms}; supported is type {kind} with an iou_threshold'
        )
    if 'iou_threshold' not in nms:
        raise _refusal(model, '`test_cfg.nms` has no `iou_threshold`')
    return dict(iou_threshold=nms['iou_threshold'], class_agnostic=nms.get('class_agnostic', False))


def _read_test_cfg(model: nn.Module, settings: Mapping[str, Any]) -> Selection:
    head = model.bbox_head
    nms = _read_nms(model, settings, NMS_TYPES[box_size(head)])
    for key in ('nms_pre', 'max_per_img'):
        if settings.get(key, -1) < 1:
            raise _refusal(
                model,
                f'`test_cfg.{key}` is {settings.get(key)}; set a positive number, for instance '
                f'with --cfg-options model.test_cfg.{key}=1000',
            )
    limit, min_size = settings['max_per_img'], settings.get('min_bbox_size', -1)
    if (most := settings['nms'].get('max_num', -1)) > 0:
        limit = min(limit, most)
    return Selection(
        score_thr=settings.get('score_thr', 0),
        nms_pre=settings['nms_pre'],
        **nms,
        max_per_img=limit,
        min_bbox_size=min_size if min_size >= 0 else None,
        # Boxes from distances to four sides and an angle are not clipped.
        clip=not hasattr(head, 'angle_coder') and getattr(head.bbox_coder, 'clip_border', True),
        strides=tuple(stride[0] for stride in head.prior_generator.strides),
        num_priors=tuple(head.prior_generator.num_base_priors),
    )


def _refusal(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'Decoded boxes cannot be exported from this {type(model).__name__}: {reason}. Export the '
        'raw outputs of the head with --include none: OpenMMLab then decodes them where the file '
        'runs.'
    )


class DecodedNetwork(Network):
    """Maps normalised images to all boxes with their scores, level by level.

    Args:
        model: A single-stage detector.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.selection = read_selection(model)
        self.one_label = predicts_one_label(model.bbox_head)
        self.dtype = torch.float32

    def cast(self, precision: str) -> nn.Module:
        """Converts the network; boxes stay in float32 and in whole pixels."""
        self.dtype = DTYPES[precision]
        self.model.to(self.dtype)
        return self

    def names(self, nested: Any) -> list[str]:
        """Names the outputs."""
        return ['boxes', 'scores', 'factors'][: len(nested)]

    def nested(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predicts the boxes of a batch of images.

        Args:
            x: (B, C, H, W) normalised images.

        Returns:
            (B, N, 4) corners or (B, N, 5) rotated boxes in pixels of the input, not clipped; (B, N,
            num_classes) scores; (B, N) factors of the scores, if the head has them.
        """
        levels = [self._decoded(*level) for level in self._levels(x)]
        boxes, scores, factors = zip(*levels, strict=True)
        found = torch.cat(boxes, dim=1), torch.cat(scores, dim=1)
        return found if factors[0] is None else (*found, torch.cat(factors, dim=1))

    def count_boxes(self, x: Tensor) -> None:
        """Records the number of boxes of each level, which strides do not always determine.

        Args:
            x: (B, C, H, W) images of the size of the file.
        """
        with torch.no_grad():
            sizes = tuple(len(priors) for _, _, _, priors, _ in self._levels(x))
        self.selection = self.selection._replace(sizes=sizes)

    def _decoded(
        self, scores: Tensor, bbox_pred: Tensor, factor: Tensor | None, priors: Tensor, stride: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        return self._boxes(bbox_pred, priors.expand(len(scores), -1, -1), stride), scores, factor

    def _levels(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor | None, Tensor, int]]:
        """Returns (B, N, C) scores, (B, N, D) predictions, (B, N) factors, (N, 4 or 5) priors and
        the stride of each level."""
        head, B = self.model.bbox_head, x.shape[0]
        strides = self.selection.strides
        outputs = [output.float() for output in flatten(super().nested(x.to(self.dtype)))]
        kinds = [outputs[i : i + len(strides)] for i in range(0, len(outputs), len(strides))]
        rotates = hasattr(head, 'angle_coder')
        if len(kinds) not in (2, 3, 3 + rotates) or len(outputs) % len(strides):
            raise _refusal(
                self.model,
                f'its {type(head).__name__} returns {len(outputs)} maps for {len(strides)} levels; '
                'supported are scores, boxes, and optionally a score factor and an angle',
            )
        angles = kinds[2] if rotates and len(kinds) > 2 else None
        qualities = kinds[2 + (angles is not None) :]
        sizes = [scores.shape[-2:] for scores in kinds[0]]
        with_stride = dict(with_stride=True) if self.one_label else {}
        priors = head.prior_generator.grid_priors(
            sizes, dtype=x.dtype, device=x.device, **with_stride
        )
        levels = []
        for i, (logits, bbox_pred) in enumerate(zip(*kinds[:2], strict=True)):
            prior = getattr(priors[i], 'tensor', priors[i])
            logits = logits.permute(0, 2, 3, 1).reshape(B, -1, head.cls_out_channels)
            scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[..., :-1]
            width = bbox_pred.shape[1] // self.selection.num_priors[i]
            bbox_pred = bbox_pred.permute(0, 2, 3, 1).reshape(B, -1, width)
            factor = None
            if angles is not None:
                angle = angles[i].permute(0, 2, 3, 1).reshape(B, -1, 1)
                bbox_pred = torch.cat([bbox_pred, angle], dim=-1)
            if qualities:
                factor = qualities[0][i].permute(0, 2, 3, 1).reshape(B, -1).sigmoid()
            if self.one_label and factor is not None:  # the threshold holds for the product
                best = scores == scores.amax(-1, keepdim=True)
                scores = torch.where(best, scores * factor[..., None], 0.0)
                factor = None
            levels.append((scores, bbox_pred, factor, prior, strides[i]))
        return levels

    def _boxes(self, bbox_pred: Tensor, priors: Tensor, stride: int) -> Tensor:
        """Decodes (B, N, D) predictions for (B, N, 4 or 5) priors."""
        head, (B, count) = self.model.bbox_head, bbox_pred.shape[:2]
        if self.one_label:
            boxes = head._bbox_decode(priors.flatten(0, 1), bbox_pred.flatten(0, 1))
            return boxes.reshape(B, count, 4)
        if hasattr(head, 'integral'):  # GFL: distributions over distances from the centre
            bins = bbox_pred.reshape(B, count, 4, -1).softmax(-1)
            bbox_pred = (bins * head.integral.project.to(bins)).sum(-1) * stride
            priors = (priors[..., :2] + priors[..., 2:]) / 2
        boxes = head.bbox_coder.decode(priors.flatten(0, 1), bbox_pred.flatten(0, 1))
        boxes = getattr(boxes, 'tensor', boxes)
        start = ANGLE_STARTS.get(getattr(head.bbox_coder, 'angle_version', ''))
        if start is not None:  # the coder's modulo is that of C in ncnn
            turns = ((boxes[:, 4:] - start) * (1 / math.pi)).floor()
            boxes = torch.cat([boxes[:, :4], boxes[:, 4:] - math.pi * turns], dim=1)
        return boxes.reshape(B, count, -1)


class BoxNetwork(DecodedNetwork):
    """Maps normalised images to the best boxes of each level, before NMS.

    Args:
        model: A single-stage detector.

    Raises:
        UserError: If a file cannot reproduce how the detector predicts.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if not self.one_label and box_size(model.bbox_head) != 4:
            raise UserError(
                'NMS of rotated boxes is no standard operator. Export with --include decode: '
                'edgenext_mm and its runtime select the boxes where the file runs.'
            )

    def names(self, nested: Any) -> list[str]:
        """Names the outputs."""
        return ['boxes', 'scores', 'labels']

    def nested(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predicts boxes for a batch of images.

        Args:
            x: (B, C, H, W) normalised images.

        Returns:
            (B, K, 4) corners in pixels of the input, (B, K) scores and (B, K) labels. Boxes that
            were filtered out have the score :data:`~edgenext_mm.runtime.boxes.NO_SCORE`.
        """
        levels = [self._best(*level) for level in self._levels(x)]
        boxes, scores, labels = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
        if self.selection.clip:
            horizontal = boxes[..., 0::2].clamp(0, x.shape[-1])
            vertical = boxes[..., 1::2].clamp(0, x.shape[-2])
            boxes = torch.stack((horizontal, vertical), dim=-1).flatten(-2)
        return boxes, scores, labels

    def _best(
        self, scores: Tensor, bbox_pred: Tensor, factor: Tensor | None, priors: Tensor, stride: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        classes = scores.shape[-1]
        most = priors.shape[0] if self.one_label else priors.shape[0] * classes
        count = min(self.selection.nms_pre, most)
        scores, index = scores.flatten(1).topk(count, dim=1)
        position, labels = index // classes, index % classes
        found = scores > self.selection.score_thr
        if factor is not None:
            scores = scores * factor.gather(1, position)
        scores = torch.where(found, scores, torch.full_like(scores, NO_SCORE))
        bbox_pred = bbox_pred.gather(1, position[..., None].expand(-1, -1, bbox_pred.shape[-1]))
        return self._boxes(bbox_pred, priors[position], stride), scores, labels

"""Detectors whose files return final boxes: two-stage ones, and those of a fixed number of boxes.

The networks here run the detector's own prediction as far as it has constant shapes. Two-stage
detectors run NMS between their stages; it is computed with a constant number of boxes, of which
those that were filtered out have the score :data:`~edgenext_mm.runtime.boxes.NO_SCORE`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from mmengine.structures import InstanceData
from torch import Tensor, nn

from ..errors import UserError
from ..runtime.boxes import NO_SCORE, FinalBoxes
from .heads import Network
from .known_sizes import KnownSizes

#: A box outside of every image, which overlaps with no box inside.
NOWHERE = (-2.0, -2.0, -1.0, -1.0)


class FinalNetwork(Network):
    """Maps one normalised (1, C, H, W) image to its final boxes.

    Args:
        model: A detector.
    """

    final: FinalBoxes
    has_masks = False

    def names(self, nested: Any) -> list[str]:
        """Names the outputs."""
        return ['boxes', 'scores', 'labels', 'masks'][: len(nested)]

    def cast(self, precision: str) -> nn.Module:
        """Refuses other precisions; converters that compress weights do not call this."""
        raise UserError(
            f'Files of a {type(self.model).__name__} compute in fp32, because its boxes need it. '
            'Use --precision fp32, or --format openvino for fp16 weights.'
        )


class FixedNetwork(FinalNetwork):
    """Runs detectors that always return the same number of boxes, without NMS.

    Args:
        model: A detection transformer.

    Raises:
        UserError: If the model's prediction is another one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if reason := _not_fixed(model):
            raise _refusal(model, reason)
        self.final = FinalBoxes()

    def nested(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predicts the boxes of an image.

        Args:
            x: (1, C, H, W) normalised image.

        Returns:
            (1, K, 4) corners in pixels of the input, (1, K) scores and (1, K) labels.
        """
        from mmdet.structures import DetDataSample

        size = tuple(x.shape[-2:])
        shapes = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size)
        meta = dict(**shapes, scale_factor=(1.0, 1.0))
        with KnownSizes():
            (sample,) = self.model.predict(x, [DetDataSample(metainfo=meta)], rescale=False)
        found = sample.pred_instances
        return found.bboxes[None], found.scores[None], found.labels[None]


class RegionNetwork(FinalNetwork):
    """Runs two-stage detectors: proposals, NMS, box heads, NMS, mask head.

    Args:
        model: A detector with an ``RPNHead`` and a ``StandardRoIHead`` or ``CascadeRoIHead``.

    Raises:
        UserError: If a part of the model predicts in another way.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if reason := _not_regions(model):
            raise _refusal(model, reason)
        head = model.roi_head
        self.has_masks = head.with_mask
        self.final = FinalBoxes(mask_thr=head.test_cfg.mask_thr_binary if self.has_masks else None)

    def nested(self, x: Tensor) -> tuple[Tensor, ...]:
        """Predicts the boxes of an image.

        Args:
            x: (1, C, H, W) normalised image.

        Returns:
            (1, K, 4) corners in pixels of the input, (1, K) scores and (1, K) labels; with a mask
            head (1, K, h, w) probabilities of the pixels of each box.
        """
        features, size = self.model.extract_feat(x), tuple(x.shape[-2:])
        proposals, exist = self._propose(features, size)
        (found,) = self.model.roi_head.predict_bbox(
            features, [dict(img_shape=size)], [InstanceData(bboxes=proposals)], rcnn_test_cfg=None
        )
        boxes, scores, labels = self._select(found.bboxes, found.scores, exist)
        if not self.has_masks:
            return boxes[None], scores[None], labels[None]
        return boxes[None], scores[None], labels[None], self._masks(features, boxes, labels)[None]

    def _propose(self, features: tuple[Tensor, ...], size: tuple) -> tuple[Tensor, Tensor]:
        """Returns (R, 4) proposals, and whether each exists."""
        head = self.model.rpn_head
        settings = head.test_cfg
        cls_scores, bbox_preds = head(features)
        sizes = [scores.shape[-2:] for scores in cls_scores]
        priors = head.prior_generator.grid_priors(sizes, dtype=cls_scores[0].dtype, device='cpu')
        all_boxes, all_scores, levels = [], [], []
        for level, prior in enumerate(priors):
            logits = cls_scores[level][0].permute(1, 2, 0).reshape(-1, head.cls_out_channels)
            scores = logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(-1)[:, :-1]
            best, index = scores[:, 0].topk(min(settings.nms_pre, len(prior)))
            deltas = bbox_preds[level][0].permute(1, 2, 0).reshape(len(prior), -1)[index]
            all_boxes.append(head.bbox_coder.decode(prior[index], deltas, max_shape=size))
            all_scores.append(best)
            levels.append(torch.full_like(index, level))
        boxes, scores = torch.cat(all_boxes), torch.cat(all_scores)
        least = settings.get('min_bbox_size', -1)
        if least >= 0:
            large = (boxes[:, 2:] - boxes[:, :2] > least).all(1)
            scores = torch.where(large, scores, NO_SCORE)
        limit = _limit(settings)
        best, index = best_after_nms(boxes, scores, torch.cat(levels), settings.nms, limit)
        return boxes[index], best > NO_SCORE

    def _select(
        self, boxes: Tensor, scores: Tensor, exist: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Selects the detections among the boxes of all proposals.

        Args:
            boxes: (R, 4) boxes, or (R, num_classes * 4) boxes for each class.
            scores: (R, num_classes + 1) scores; the last is that of the background.
            exist: (R,) whether a proposal exists.
        """
        settings = self.model.roi_head.test_cfg
        scores = scores[:, :-1]
        classes = scores.shape[1]
        scores = torch.where((scores > settings.score_thr) & exist[:, None], scores, NO_SCORE)
        # Scores of a softmax have the sum 1, which limits how many are above a threshold.
        most = classes
        if settings.score_thr > 0 and not _last_box_head(self.model.roi_head).custom_cls_channels:
            most = min(classes, math.ceil(1 / settings.score_thr))
        scores, index = scores.flatten().topk(scores.shape[0] * most)
        position, labels = index // classes, index % classes
        boxes = boxes.reshape(-1, 4)[index] if boxes.shape[1] > 4 else boxes[position]
        best, index = best_after_nms(boxes, scores, labels, settings.nms, _limit(settings))
        return boxes[index], best, labels[index]

    def _masks(self, features: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Returns (K, h, w) probabilities of the pixels of (K, 4) boxes."""
        head = self.model.roi_head
        rois = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1)
        if isinstance(head.mask_head, nn.ModuleList):  # a cascade averages its stages
            stages = range(len(head.mask_head))
            parts = [head._mask_forward(i, features, rois)['mask_preds'].sigmoid() for i in stages]
            masks, last = sum(parts) / len(parts), head.mask_head[-1]
        else:
            masks = head._mask_forward(features, rois)['mask_preds'].sigmoid()
            last = head.mask_head
        if last.class_agnostic:
            return masks[:, 0]
        shape = (len(masks), 1, *masks.shape[-2:])
        return masks.gather(1, labels[:, None, None, None].expand(shape))[:, 0]


class SelectedRoIExtractor(nn.Module):
    """Extracts the features of regions like a ``SingleRoIExtractor``, with constant shapes.

    Every level extracts all regions; those of other levels are empty, which costs little.

    Args:
        extractor: The ``SingleRoIExtractor``.
    """

    def __init__(self, extractor: Any) -> None:
        super().__init__()
        self.extractor = extractor
        self.num_inputs = extractor.num_inputs

    def forward(
        self, feats: tuple[Tensor, ...], rois: Tensor, roi_scale_factor: float | None = None
    ) -> Tensor:
        """Returns the features of regions; the arguments are those of ``SingleRoIExtractor``."""
        levels = self.extractor.map_roi_levels(rois, len(feats))
        if roi_scale_factor is not None:
            rois = self.extractor.roi_rescale(rois, roi_scale_factor)
        found = []
        for i, (layer, feat) in enumerate(zip(self.extractor.roi_layers, feats, strict=True)):
            chosen = levels == i
            part = layer(feat, torch.where(chosen[:, None], rois, 0.0))
            found.append(torch.where(chosen[:, None, None, None], part, 0.0))
        return torch.stack(found).sum(0)


def with_standard_layers(model: nn.Module) -> nn.Module:
    """Exchanges layers without ONNX operator for equivalent ones, in place.

    mmcv's RoIAlign runs by its option as torchvision's.

    Args:
        model: The deploy form of a model.
    """
    from mmcv.ops import RoIAlign
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    for name, module in list(model.named_modules()):
        if type(module) is SingleRoIExtractor:
            model.set_submodule(name, SelectedRoIExtractor(module))
        elif isinstance(module, RoIAlign):
            module.use_torchvision = True
    return model


def best_after_nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms: Mapping[str, Any], limit: int
) -> tuple[Tensor, Tensor]:
    """Returns the scores and indices of the best boxes after NMS, as a constant number of them.

    Args:
        boxes: (N, 4) corners.
        scores: (N,) scores; :data:`NO_SCORE` for boxes that were filtered out.
        groups: (N,) numbers of classes or levels; only boxes of one group suppress each other.
        nms: Settings of mmcv's ``batched_nms``.
        limit: Maximum number of boxes.

    Returns:
        Scores and indices, best first. Boxes that do not exist have the score :data:`NO_SCORE`.
    """
    exists = scores > NO_SCORE
    moved = boxes
    if not nms.get('class_agnostic', False):  # as in batched_nms: one NMS serves all groups
        moved = boxes + groups[:, None] * (boxes.max() + 1)
    moved = torch.where(exists[:, None], moved, moved.new_tensor(NOWHERE))
    kept = torchvision.ops.nms(moved, scores, nms['iou_threshold'])
    survives = torch.zeros_like(exists).index_fill(0, kept, True)
    scores = torch.where(survives, scores, NO_SCORE)
    best, index = scores.topk(min(limit, len(scores)))
    return best, index


def is_two_stage(model: nn.Module) -> bool:
    """Whether a detector has regions of interest."""
    return hasattr(model, 'roi_head')


def is_fixed(model: nn.Module) -> bool:
    """Whether a detector always returns the same number of boxes, without NMS."""
    return hasattr(model, 'bbox_head') and not _not_fixed(model)


def _owner(kind: type, method: str) -> str:
    """Returns the name of the class that defines a method."""
    return next((base.__name__ for base in kind.__mro__ if method in vars(base)), '')


def _overridden(kind: type, methods: Mapping[str, tuple[str, ...]]) -> str:
    """Returns why the methods of a class are not those that are known; empty if they are."""
    for method, known in methods.items():
        if _owner(kind, method) not in known:
            return f'its {kind.__name__} has a `{method}` of its own'
    return ''


def _not_fixed(model: nn.Module) -> str:
    transformers = ('DETRHead', 'DeformableDETRHead', 'ConditionalDETRHead', 'DABDETRHead')
    return _overridden(type(model), {'predict': ('DetectionTransformer',)}) or _overridden(
        type(model.bbox_head),
        {'predict': transformers, 'predict_by_feat': ('DETRHead', 'DeformableDETRHead')},
    )


def _not_regions(model: nn.Module) -> str:
    roi_heads = ('StandardRoIHead', 'CascadeRoIHead', 'DynamicRoIHead', 'DoubleHeadRoIHead')
    reason = (
        _overridden(type(model), {'predict': ('TwoStageDetector',)})
        or ('it has no RPN' if not hasattr(model, 'rpn_head') else '')
        or _overridden(
            type(model.rpn_head),
            {
                'predict': ('BaseDenseHead',),
                'predict_by_feat': ('BaseDenseHead',),
                '_predict_by_feat_single': ('RPNHead',),
                '_bbox_post_process': ('RPNHead',),
            },
        )
        or _overridden(
            type(model.roi_head),
            {
                'predict': ('BaseRoIHead',),
                'predict_bbox': roi_heads,
                'predict_mask': roi_heads,
                '_mask_forward': roi_heads,
            },
        )
        or _overridden(type(_last_box_head(model.roi_head)), {'predict_by_feat': ('BBoxHead',)})
    )
    if reason:
        return reason
    if model.roi_head.with_mask:
        heads = model.roi_head.mask_head
        last = heads[-1] if isinstance(heads, nn.ModuleList) else heads
        if reason := _overridden(type(last), {'predict_by_feat': ('FCNMaskHead',)}):
            return reason
    coders = model.rpn_head.bbox_coder, _last_box_head(model.roi_head).bbox_coder
    if not all(getattr(coder, 'clip_border', True) for coder in coders):
        return 'a `bbox_coder` does not clip boxes to the image'
    for name, settings in (
        ('rpn', model.rpn_head.test_cfg),
        ('rcnn', model.roi_head.test_cfg),
    ):
        nms = settings.get('nms') or {}
        if nms.get('type') != 'nms' or 'iou_threshold' not in nms or nms.get('offset', 0):
            return (
                f'`test_cfg.{name}.nms` is {dict(nms)}; supported is type nms with an iou_threshold'
            )
        if settings.get('max_per_img', -1) < 1:
            return f'`test_cfg.{name}.max_per_img` is not a positive number'
    if model.rpn_head.test_cfg.get('nms_pre', -1) < 1:
        return '`test_cfg.rpn.nms_pre` is not a positive number'
    return ''


def _last_box_head(roi_head: Any) -> Any:
    heads = roi_head.bbox_head
    return heads[-1] if isinstance(heads, nn.ModuleList) else heads


def _limit(settings: Mapping[str, Any]) -> int:
    most = settings['nms'].get('max_num', -1)
    limit = settings['max_per_img']
    return min(limit, most) if most > 0 else limit


def _refusal(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'This {type(model).__name__} cannot be exported: {reason}, which a file does not '
        'reproduce. Detectors that can be exported: single-stage ones such as SSDLite, GFL, '
        'RetinaNet, FCOS, ATSS and RTMDet; Faster, Cascade and Mask R-CNN with an RPNHead; DETR, '
        'Conditional DETR, DAB-DETR, Deformable DETR and DINO.'
    )

"""Comparison of exported files with their models."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor, nn
from torchvision.ops import box_iou

from ..errors import UserError
from ..runtime.boxes import clipped
from ..runtime.metadata import Metadata
from .boxes import BoxNetwork, DecodedNetwork, predicts_one_label
from .exported_model import ExportedModel
from .file_formats import open_session
from .final_boxes import FinalNetwork
from .heads import LabelNetwork, Network, ScoreNetwork, from_pixels, to_pixels

#: The largest accepted deviation by precision, relative to the largest value of an output. INT8 is
#: judged by its accuracy on a data set; its bound only detects broken files.
BOUNDS = {'fp32': 1e-4, 'fp16': 2e-2, 'bf16': 5e-2, 'int8': 1.0}
#: The smallest tolerance for the IoU of two boxes. The original image and the input round
#: coordinates differently.
IOU_TOLERANCE = 1e-3
#: The largest number of half precision.
HALF_MAX = 65504


class Deviation(NamedTuple):
    """The deviation of an output of a file from the model's.

    Args:
        output: Name of the output.
        absolute: The largest difference.
        relative: The largest difference divided by the largest value of the model's output.
    """

    output: str
    absolute: float
    relative: float


class InMemory(NamedTuple):
    """A network as a session, in place of an opened file.

    Args:
        network: The network to export.
        metadata: Metadata of the future file.
    """

    network: nn.Module
    metadata: Metadata

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        return list(self.network(x))


@torch.no_grad()
def rehearse(network: Network, metadata: Metadata, image: Tensor) -> None:
    """Checks that a model's results follow from the outputs of its head.

    They do not for models that change the results of their head.

    Args:
        network: The network to export.
        metadata: Metadata of the future file.
        image: (1, C, H, W) normalised image.

    Raises:
        UserError: If the results differ.
    """
    model = network.model
    if isinstance(network, FinalNetwork):
        _check_final(network, replace(metadata, include=('decode',)), image)
        return
    if isinstance(network, BoxNetwork):
        return  # the file's boxes are compared with the model's after NMS
    if isinstance(network, DecodedNetwork):
        _check_decoding(network, image)
        return
    if isinstance(network, LabelNetwork):
        network = Network(model)
        metadata = replace(metadata, include=(), outputs=('logits',))
    decodes = isinstance(network, ScoreNetwork)
    metadata = replace(metadata, include=('decode',) if decodes else ())  # without preprocessing
    expected = model_results(model, image)
    try:
        exported = ExportedModel(InMemory(network, metadata))
        actual = model_results(exported.shell, image)
    except UserError:
        raise
    except Exception as error:  # heads fail in many ways on outputs that they do not expect
        raise _not_enough(model, f'{type(error).__name__}: {error}') from error
    same = actual.keys() == expected.keys() and all(
        actual[name].shape == value.shape
        and torch.allclose(actual[name].float(), value.float(), rtol=1e-4, atol=1e-4)
        for name, value in expected.items()
    )
    if not same:
        raise _not_enough(model, 'they lead to other results')


def _check_final(network: FinalNetwork, metadata: Metadata, image: Tensor) -> None:
    """Checks that a network finds the objects that its model finds."""
    exported = ExportedModel(InMemory(network, metadata))
    deviations = _compare_final(network.model, exported, image, BOUNDS['fp32'])
    if any(not deviation.relative <= BOUNDS['fp32'] for deviation in deviations):
        raise _not_enough(network.model, 'they lead to other boxes')


def _check_decoding(network: DecodedNetwork, image: Tensor) -> None:
    """Checks that the best boxes of a model before NMS are among those that a network decodes."""
    boxes, scores, *factors = (output[0] for output in network(image))
    if factors:
        scores = scores * factors[0][:, None]
    candidates, _ = _candidates(network.model, image, 0.0)
    candidates = candidates[candidates.scores.argsort(descending=True)[:200]]
    expected = getattr(candidates.bboxes, 'tensor', candidates.bboxes)
    if network.selection.clip:
        boxes = torch.from_numpy(clipped(boxes.numpy(), image.shape[-2:]))
    gaps = (boxes[None] - expected[:, None]).abs().amax(-1)
    gaps = gaps + (scores.T[candidates.labels] - candidates.scores[:, None]).abs()
    if len(candidates) and not gaps.amin(1).max() <= 1e-3 * max(image.shape[-2:]) / 100:
        raise _not_enough(network.model, 'they lead to other boxes')


@torch.no_grad()
def check_half_range(network: Network, images: Sequence[Tensor]) -> None:
    """Warns of layers whose outputs come near the largest number of half precision.

    A file runs other images than those of the comparison, with larger values.

    Args:
        network: The network to export, in single precision.
        images: (1, C, H, W) normalised images.
    """
    largest: dict[str, float] = {}

    def record(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.numel():
            largest[name] = max(largest.get(name, 0.0), output.abs().max().item())

    handles = [
        module.register_forward_hook(lambda *arguments, name=name: record(name, arguments[-1]))
        for name, module in network.named_modules()
        if name
    ]
    try:
        for image in images:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    near = sorted((-value, name) for name, value in largest.items() if value > HALF_MAX / 8)
    if near:
        value, name = near[0]
        print_log(
            f'The outputs of {len(near)} layers come near {HALF_MAX:,}, the limit of FP16: '
            f'up to {-value:,.0f} in `{name.removeprefix("model.")}`. Beyond it they become '
            'infinite, and the results are wrong. Test the file on your data, or choose fp32 or '
            'bf16.',
            'current',
            logging.WARNING,
        )


def _not_enough(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'A {type(model).__name__} cannot be exported: a file holds the outputs of its head, and '
        f'these are not enough to predict with ({reason}). Choose a model that predicts like those '
        'of the OpenMMLab libraries, such as SSDLite, GFL, Mask R-CNN, DINO or DeepLabv3.'
    )


def model_results(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Predicts a normalised image, with the complete post-processing of the model.

    Args:
        model: An OpenMMLab model.
        image: (1, C, H, W) normalised image without padding and resizing.

    Returns:
        The predicted tensors by name, such as ``pred_instances.bboxes``.
    """
    (sample,) = model(image, _samples_for(model, image), mode='predict')
    results = {}
    for name, value in sample.all_items():
        for key, part in value.all_items() if hasattr(value, 'all_items') else [('', value)]:
            part = getattr(part, 'tensor', part)
            if isinstance(part, Tensor) and name.startswith(('pred', 'seg_logits')):
                results[f'{name}.{key}'] = part
    return results


def _samples_for(model: nn.Module, image: Tensor) -> list | None:
    if not hasattr(model, 'bbox_head') and not hasattr(model, 'roi_head'):
        return None  # mmpretrain and mmseg create samples themselves
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[-2:])
    shapes = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size)
    meta = dict(**shapes, scale_factor=(1.0, 1.0), img_id=0, border=np.zeros(4, np.float32))
    return [DetDataSample(metainfo=meta)]


@torch.no_grad()
def compare(
    network: Network, path: Path, images: Sequence[Tensor], metadata: Metadata
) -> list[Deviation]:
    """Runs a model and a file on images.

    Args:
        network: The exported network, before the switch to the deploy form.
        path: Path of the file.
        images: (1, C, H, W) normalised images.
        metadata: Metadata of the file.

    Returns:
        The largest deviation of each output; an empty list without images. For files of detections,
        the deviations of ``boxes`` and ``scores``, see :func:`_compare_boxes` and
        :func:`_compare_final`.
    """
    if not images:
        return []
    found: list[Deviation] = []
    if isinstance(network, (BoxNetwork, FinalNetwork)):
        exported = ExportedModel(path)
        bound = BOUNDS[metadata.precision]
        for image in images:
            if 'preprocess' in metadata.include:
                pixels = to_pixels(image, metadata.preprocessing)
                image = from_pixels(pixels, metadata.preprocessing)
            if isinstance(network, BoxNetwork):
                found.extend(_compare_boxes(network, exported, image, bound))
            else:
                found.extend(_compare_final(network.model, exported, image, bound))
    else:
        session = open_session(path)
        for image in images:
            given = image
            if 'preprocess' in metadata.include:  # pixels cannot hold padding exactly
                given = to_pixels(image, metadata.preprocessing)
                image = from_pixels(given, metadata.preprocessing)
            outputs = zip(metadata.outputs, session(given), network(image), strict=True)
            found.extend(_compare_output(*output) for output in outputs)
    worst: dict[str, Deviation] = {}
    for deviation in found:
        known = worst.setdefault(deviation.output, deviation)
        if not deviation.relative <= known.relative:  # also true for NaN
            worst[deviation.output] = deviation
    return list(worst.values())


def _compare_output(name: str, actual: Tensor, expected: Tensor) -> Deviation:
    if actual.shape != expected.shape:
        raise UserError(
            f'The file returns {name} of shape {tuple(actual.shape)}, but the model returns '
            f'{tuple(expected.shape)}. It was not kept.'
        )
    if not expected.is_floating_point():  # classes of pixels, of which ties may differ
        wrong = (actual != expected).float().mean()
        return Deviation(name, wrong.item(), wrong.item())
    return _deviation(name, (actual - expected).abs(), expected)


def _deviation(name: str, difference: Tensor, expected: Tensor) -> Deviation:
    absolute = difference.max().item() if difference.numel() else 0.0
    largest = expected.abs().max().item() if expected.numel() else 1.0
    return Deviation(name, absolute, absolute / max(largest, 1e-12))


def _compare_final(
    model: nn.Module, exported: ExportedModel, image: Tensor, bound: float
) -> list[Deviation]:
    """Compares the detections of a file with those of its model, as sets.

    An object without its like counts as a deviation by its score. If only the maximum number of
    objects left it out, it counts by how much better it is than the last one.

    Args:
        model: The model.
        exported: The file.
        image: (1, C, H, W) normalised image.
        bound: How much the same box may differ, relative to the size of the image.
    """
    (expected,), (found,) = (
        m(image, _samples_for(model, image), mode='predict') for m in (model, exported.shell)
    )
    expected, found = expected.pred_instances, found.pred_instances
    distance = (expected.bboxes[:, None] - found.bboxes[None]).abs().amax(-1)
    distance = distance + (expected.scores[:, None] - found.scores[None]).abs()
    differs = expected.labels[:, None] != found.labels[None]
    distance = distance.masked_fill(differs, torch.inf)
    tolerance = bound * max(image.shape[-2:])
    pairs = []
    for row in range(len(distance)):
        column = int(distance[row].argmin()) if len(found) else -1
        if column >= 0 and distance[row, column] <= tolerance:
            pairs.append((row, column))
            distance[:, column] = torch.inf
    a, b = (list(indices) for indices in zip(*pairs, strict=True)) if pairs else ([], [])
    wrong = torch.cat(
        [
            (expected.scores[a] - found.scores[b]).abs(),
            *(_alone(*sides) for sides in ((expected, a, found), (found, b, expected))),
        ]
    )
    deviations = [
        _deviation('boxes', (expected.bboxes[a] - found.bboxes[b]).abs(), expected.bboxes),
        _deviation('scores', wrong, expected.scores),
    ]
    if 'masks' in expected:
        share = (expected.masks[a] != found.masks[b]).float().mean().nan_to_num().item()
        deviations.append(Deviation('masks', share, share))
    return deviations


def _alone(objects: InstanceData, paired: list[int], others: InstanceData) -> Tensor:
    """Returns by how much objects without their like exceed the last of the other objects."""
    alone = torch.ones(len(objects), dtype=torch.bool)
    alone[paired] = False
    least = others.scores.min() if len(others) >= len(objects) and len(others) else 0.0
    return (objects.scores[alone] - least).clamp_min(0)


def _compare_boxes(
    network: BoxNetwork, exported: ExportedModel, image: Tensor, bound: float
) -> tuple[Deviation, Deviation]:
    """Checks that the boxes of a file are a result of NMS on the model's candidates.

    Which of two boxes with nearly the same score is found first, or which of two that overlap by
    nearly the threshold survives, may differ between correct results. So the boxes are compared
    with the definition of greedy NMS instead of with one result:

    - every box that was found is a candidate,
    - no two of them overlap,
    - every candidate that is missing has a reason: it overlaps with a better box that was found, it
      is not among the ``nms_pre`` best, or ``max_per_img`` better boxes were found.

    A box that violates the second or third condition counts as a deviation by its whole score.

    Args:
        network: The model.
        exported: The file.
        image: (1, C, H, W) normalised image.
        bound: The tolerance, relative to the largest coordinate and score.
    """
    model, selection = network.model, network.selection
    (sample,) = exported.shell(image, _samples_for(model, image), mode='predict')
    found = sample.pred_instances
    largest = torch.cat([found.scores, found.scores.new_zeros(1)]).max().item()
    tolerance, iou_tolerance = bound * max(largest, 1e-12), max(bound, IOU_TOLERANCE)
    candidates, raw_scores = _candidates(model, image, selection.score_thr - tolerance)

    def overlaps(a: InstanceData, b: InstanceData, threshold: float) -> Tensor:
        same = a.labels[:, None] == b.labels[None]
        return (same | selection.class_agnostic) & (box_iou(a.bboxes, b.bboxes) > threshold)

    differs = found.labels[:, None] != candidates.labels[None]
    distance = (found.bboxes[:, None] - candidates.bboxes[None]).abs().amax(-1)
    distance = F.pad(distance.masked_fill(differs, torch.inf), (0, 1), value=torch.inf)
    score_gap = (found.scores[:, None] - candidates.scores[None]).abs()
    score_gap = F.pad(score_gap, (0, 1), value=torch.inf)  # the last column is for no candidate
    # Several candidates may have the same corners and differ in their scores.
    nearest = (distance + score_gap).argmin(1, keepdim=True)
    twice = overlaps(found, found, selection.iou_threshold + iou_tolerance).triu(1).any(1)

    missing = F.pad(raw_scores > selection.score_thr + tolerance, (0, 1))
    missing[nearest] = False
    missing = missing[:-1]
    better = found.scores[None] >= candidates.scores[:, None] - tolerance
    near = overlaps(candidates, found, selection.iou_threshold - iou_tolerance)
    missing &= ~(near & better).any(1)
    missing &= better.sum(1) < selection.max_per_img
    lower = torch.searchsorted(raw_scores.sort().values, raw_scores - tolerance)
    missing &= len(raw_scores) - lower <= selection.nms_pre
    wrong = (score_gap.gather(1, nearest)[:, 0], found.scores[twice], candidates.scores[missing])
    return (
        _deviation('boxes', distance.gather(1, nearest), candidates.bboxes),
        _deviation('scores', torch.cat(wrong), candidates.scores),
    )


def _candidates(model: nn.Module, image: Tensor, score_thr: float) -> tuple[InstanceData, Tensor]:
    """Returns all boxes of a model before NMS, and their scores before score factors."""
    head = model.bbox_head
    outputs = head(model.extract_feat(image))
    (sample,) = _samples_for(model, image) or []
    settings = type(head.test_cfg)(head.test_cfg)
    settings.update(nms_pre=10**9, score_thr=score_thr)

    def predict(maps: Sequence) -> InstanceData:
        metas = [sample.metainfo]
        return head.predict_by_feat(*maps, batch_img_metas=metas, cfg=settings, with_nms=False)[0]

    found = predict(outputs)
    if predicts_one_label(head):  # the threshold holds for the product
        return found, found.scores
    return found, predict(outputs[: 3 if hasattr(head, 'angle_coder') else 2]).scores


def check_deviations(
    deviations: Sequence[Deviation], precision: str, bound: float | None = None
) -> None:
    """Refuses deviations above a bound.

    Args:
        deviations: Deviations from :func:`compare`.
        precision: Precision of the file.
        bound: The largest accepted relative deviation. Default: that of the precision, see
            :data:`BOUNDS`.

    Raises:
        UserError: If a deviation is larger; names the output.
    """
    bound = BOUNDS[precision] if bound is None else bound
    for deviation in deviations:
        if not deviation.relative <= bound:
            raise UserError(
                f'The exported file deviates from the model: {deviation.output} by '
                f'{deviation.relative:.2e} of its largest value, more than {bound:.0e}. It was not '
                'kept. Give --bound to accept a larger deviation.'
            )

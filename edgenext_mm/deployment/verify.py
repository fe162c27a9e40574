"""Whether a file gives what its model gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .boxes import Selection
from .exported_model import ExportedModel
from .file_formats import open_session
from .heads import Network
from .metadata import Metadata

#: Largest deviation accepted of each precision, relative to the largest value of an output. INT8 is
#: judged by its accuracy on a data set, this only tells a broken file.
BOUNDS = {'fp32': 1e-4, 'fp16': 2e-2, 'bf16': 5e-2, 'int8': 1.0}
#: How near to NMS's threshold the overlap of two boxes may be for either result to be right, at
#: least; coordinates are rounded in other ways in the original image and in the input.
OVERLAP = 1e-3


class Deviation(NamedTuple):
    """How far an output of a file is from the model's.

    Args:
        output: Name.
        absolute: Largest difference.
        relative: That over the largest value of the model's output.
    """

    output: str
    absolute: float
    relative: float


class InMemory:
    """A network in the place of an opened file.

    Args:
        network: What is to be exported.
        metadata: Of the file.
    """

    def __init__(self, network: nn.Module, metadata: Metadata) -> None:
        self.network = network
        self.metadata = metadata

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """The outputs for (B, C, H, W) normalised images."""
        return list(self.network(x))


@torch.no_grad()
def rehearse(network: Network, metadata: Metadata, image: Tensor) -> None:
    """Makes sure that a model's own results follow from what a file of it would give.

    That does not hold for detection transformers, mask heads and whatever else needs more than
    the outputs of one head, that is called on features alone.

    Args:
        network: What is to be exported.
        metadata: Of the file.
        image: (1, C, H, W) normalised image.

    Raises:
        UserError: If the results differ.
    """
    model = network.model
    expected = model_results(model, image)
    try:
        exported = ExportedModel(InMemory(network, metadata))
        actual = model_results(exported.shell, image)
    except UserError:
        raise
    except Exception as error:  # what upstream's code raises on outputs that it does not expect
        raise _not_enough(model, f'{type(error).__name__}: {error}') from error
    same = actual.keys() == expected.keys() and all(
        actual[name].shape == value.shape
        and torch.allclose(actual[name].float(), value.float(), rtol=1e-4, atol=1e-4)
        for name, value in expected.items()
    )
    if not same:
        raise _not_enough(model, 'they lead to other results')


def _not_enough(model: nn.Module, reason: str) -> UserError:
    return UserError(
        f'A {type(model).__name__} cannot be exported: a file holds the outputs of one head, and '
        f'these are not enough to predict with ({reason}). Choose a classifier, a single-stage '
        'detector such as SSDLite, GFL or RetinaNet, or a segmentor with one decode head.'
    )


def model_results(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What a model predicts for a normalised image, after its complete post-processing.

    Args:
        model: Any of OpenMMLab.
        image: (1, C, H, W) normalised image, which is neither padded nor resized.
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
    if not hasattr(model, 'bbox_head'):
        return None  # mmpretrain and mmseg make samples themselves
    from mmdet.structures import DetDataSample

    size = tuple(image.shape[-2:])
    shapes = dict(img_shape=size, ori_shape=size, pad_shape=size, batch_input_shape=size)
    return [DetDataSample(metainfo=dict(**shapes, scale_factor=(1.0, 1.0), img_id=0))]


@torch.no_grad()
def compare(
    network: Any, path: Path, images: Sequence[Tensor], metadata: Metadata
) -> list[Deviation]:
    """Runs a model and a file on images.

    Args:
        network: What was exported, before it was switched to the deploy form.
        path: Of the file.
        images: (1, C, H, W) normalised images.
        metadata: Of the file.

    Returns:
        The largest deviation of each output, none without images. Of a file that gives boxes after
        NMS, boxes and scores are compared with those that the model predicts.
    """
    if not images:
        return []
    found: list[Deviation] = []
    if metadata.decoded:
        exported = ExportedModel(path)
        for image in images:
            found.extend(_compare_boxes(network, exported, image, BOUNDS[metadata.precision]))
    else:
        session = open_session(path)
        for image in images:
            pairs = zip(metadata.outputs, session(image), network(image), strict=True)
            found.extend(_compare_output(*pair) for pair in pairs)
    worst: dict[str, Deviation] = {}
    for deviation in found:
        known = worst.setdefault(deviation.output, deviation)
        # NaN is worse than any number.
        if not deviation.relative <= known.relative:
            worst[deviation.output] = deviation
    return list(worst.values())


def _compare_output(name: str, actual: Tensor, wanted: Tensor) -> Deviation:
    if actual.shape != wanted.shape:
        raise UserError(
            f'The file gives {tuple(actual.shape)} as {name}, the model {tuple(wanted.shape)}.'
        )
    absolute = (actual - wanted).abs().max().item() if wanted.numel() else 0.0
    return _deviation(name, absolute, wanted)


def _deviation(name: str, absolute: float, wanted: Tensor) -> Deviation:
    largest = wanted.abs().max().item() if wanted.numel() else 1.0
    return Deviation(name, absolute, absolute / max(largest, 1e-12))


class Found(NamedTuple):
    """The boxes of one image.

    Args:
        boxes: (N, 4) corners.
        scores: (N,).
        labels: (N,).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def at(self, index: Any) -> Found:
        """Some of them."""
        return Found(self.boxes[index], self.scores[index], self.labels[index])


def _compare_boxes(
    network: Any, exported: ExportedModel, image: Tensor, bound: float
) -> tuple[Deviation, Deviation]:
    """The largest differences of boxes and scores, compared as sets.

    Boxes with scores that tie have no order, and of two that overlap, or two of which one is the
    last to be kept, either may be found. A box that is missing for no such reason counts as a score
    that is off by its whole value.
    """
    model, selection = network.model, network.selection
    wanted = _found(model_results(model, image))
    actual = _found(model_results(exported.shell, image))
    distance = (wanted.boxes[:, None] - actual.boxes[None]).abs().amax(-1)
    near = bound * wanted.boxes.abs().max().item() if len(wanted.boxes) else 0.0
    rows, columns = _match(distance, wanted, actual, 10 * near)
    off = distance[rows, columns].amax().item() if len(rows) else 0.0
    score = (wanted.scores[rows] - actual.scores[columns]).abs().amax().item() if len(rows) else 0.0
    missing, extra = _without(wanted, rows), _without(actual, columns)
    if len(missing.boxes) or len(extra.boxes):
        tolerance = bound * float(torch.cat([wanted.scores, actual.scores]).max())
        candidates = _Candidates(model, image, selection, near, tolerance)
        overlap = max(bound, OVERLAP)
        sides = ((missing, extra, actual), (extra, missing, wanted))
        for one, others_missing, others in sides:
            for i in range(len(one.boxes)):
                box = one.at(slice(i, i + 1))
                if not candidates.explain(box, others_missing, others, overlap):
                    score = max(score, box.scores.item())
    return _deviation('boxes', off, wanted.boxes), _deviation('scores', score, wanted.scores)


def _found(results: Mapping[str, Tensor]) -> Found:
    boxes, scores, labels = (
        results[f'pred_instances.{key}'] for key in ('bboxes', 'scores', 'labels')
    )
    return Found(boxes, scores, labels)


def _without(found: Found, index: Tensor) -> Found:
    rest = torch.ones(len(found.boxes), dtype=torch.bool)
    rest[index] = False
    return found.at(rest)


def _match(distance: Tensor, wanted: Found, actual: Found, near: float) -> tuple[Tensor, Tensor]:
    """Pairs of boxes of one class, nearest first, each box in one pair at most."""
    apart = (wanted.labels[:, None] != actual.labels[None]) | ~(distance <= near)
    gap = (wanted.scores[:, None] - actual.scores[None]).abs()
    # Duplicates of one place, as without NMS of different classes, differ in their scores.
    cost = torch.where(apart, torch.inf, distance + gap)
    pairs = []
    while cost.numel() and cost.min() < torch.inf:
        row, column = divmod(int(cost.argmin()), cost.shape[1])
        pairs.append((row, column))
        cost[row], cost[:, column] = torch.inf, torch.inf
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(rows, dtype=torch.long), torch.tensor(columns, dtype=torch.long)


class _Candidates:
    """All boxes of a model before the best are chosen, to tell ties from mistakes.

    Args:
        model: The detector.
        image: (1, C, H, W) normalised image.
        selection: How it selects its boxes.
        near: How far coordinates may be apart.
        tolerance: How far scores may be apart.
    """

    def __init__(
        self, model: nn.Module, image: Tensor, selection: Selection, near: float, tolerance: float
    ) -> None:
        head = model.bbox_head
        outputs = head(model.extract_feat(image))
        (sample,) = _samples_for(model, image) or []
        settings = type(head.test_cfg)(head.test_cfg)
        settings.update(nms_pre=10**9, score_thr=selection.score_thr - tolerance)
        found = [
            head.predict_by_feat(
                *maps, batch_img_metas=[sample.metainfo], cfg=settings, with_nms=False
            )[0]
            for maps in (outputs, outputs[:2])
        ]
        self.boxes = Found(found[0].bboxes, found[0].scores, found[0].labels)
        self.raw = found[1].scores  # before score factors
        self.selection, self.near, self.tolerance = selection, near, tolerance

    def explain(self, box: Found, others_missing: Found, others: Found, overlap: float) -> bool:
        """Whether rounding can be why one side has a box, and the other has not.

        Args:
            box: One that one side has.
            others_missing: Those that only the other side has.
            others: All of the other side.
            overlap: How near to the threshold of NMS an overlap may be.
        """
        from torchvision.ops import box_iou

        known, selection = self.boxes, self.selection
        same = (known.boxes - box.boxes).abs().amax(-1) <= self.near
        same &= (known.scores - box.scores).abs() <= self.tolerance
        same &= known.labels == box.labels
        if not same.any():
            return False
        raw = self.raw[same].max()
        if raw <= selection.score_thr + self.tolerance:
            return True
        if (self.raw >= raw - self.tolerance).sum() > selection.nms_pre:
            return True
        full = len(others.boxes) >= selection.max_per_img
        if full and box.scores <= others.scores.min() + self.tolerance:
            return True
        for rivals, least in (
            (others_missing, selection.iou_threshold - overlap),
            (others, None),
        ):
            overlaps = box_iou(box.boxes, rivals.boxes)[0]
            suppress = rivals.scores >= box.scores - self.tolerance
            if not selection.class_agnostic:
                suppress &= rivals.labels == box.labels
            suppress &= (
                (overlaps - selection.iou_threshold).abs() <= overlap
                if least is None
                else overlaps >= least
            )
            if suppress.any():
                return True
        return False


def check_deviations(
    deviations: Sequence[Deviation], precision: str, bound: float | None = None
) -> None:
    """Refuses deviations above a bound, the precision's own by default.

    Raises:
        UserError: If there is one; names it.
    """
    bound = BOUNDS[precision] if bound is None else bound
    for deviation in deviations:
        if not deviation.relative <= bound:
            raise UserError(
                f'The exported file deviates from the model: {deviation.output} by '
                f'{deviation.relative:.2e} of its largest value, more than {bound:.0e}. It was not '
                'kept.'
            )

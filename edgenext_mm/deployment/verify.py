"""Whether a file gives what its model gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..errors import UserError
from .formats import open_session
from .heads import BoxNetwork
from .metadata import Metadata

#: Largest deviation accepted of each precision, relative to the largest value of an output. INT8 is
#: judged by its accuracy on a data set, this only tells a broken file.
BOUNDS = {'fp32': 1e-4, 'fp16': 2e-2, 'bf16': 5e-2, 'int8': 1.0}


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


@torch.no_grad()
def compare(
    network: nn.Module, path: Path, images: Sequence[Tensor], metadata: Metadata
) -> list[Deviation]:
    """Runs a model and a file on images.

    Args:
        network: What was exported, before it was switched.
        path: Of the file.
        images: Normalised (1, 3, H, W) images.
        metadata: Of the file.

    Returns:
        The largest deviation of each output, none without images. Of a file that gives boxes after
        NMS, boxes and scores are compared in order of score.
    """
    if not images:
        return []
    session = open_session(path)
    worst: dict[str, Deviation] = {}
    for image in images:
        expected = list(network(image))
        if metadata.decoded:
            pairs = _pair_boxes(network, expected, session(image), metadata)
        else:
            pairs = list(zip(metadata.outputs, session(image), expected, strict=True))
        for name, actual, wanted in pairs:
            if actual.shape != wanted.shape:
                raise UserError(
                    f'The file gives {tuple(actual.shape)} as {name}, the model '
                    f'{tuple(wanted.shape)}.'
                )
            absolute = (actual - wanted).abs().max().item() if wanted.numel() else 0.0
            largest = wanted.abs().max().item() if wanted.numel() else 1.0
            found = Deviation(name, absolute, absolute / max(largest, 1e-12))
            if name not in worst or found.relative > worst[name].relative:
                worst[name] = found
    return list(worst.values())


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


def _pair_boxes(
    network: nn.Module, best: list[Tensor], actual: list[Tensor], metadata: Metadata
) -> list[tuple[str, Tensor, Tensor]]:
    """Boxes and scores of the file and of the same NMS here, each in order of score."""
    from mmcv.ops import batched_nms

    assert isinstance(network, BoxNetwork)
    settings = metadata.config['model']['test_cfg']
    boxes, scores, labels = (part[0] for part in best)
    kept = scores > settings['score_thr']
    boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
    if len(boxes):
        dets, _ = batched_nms(boxes, scores, labels, dict(settings['nms']))
        boxes, scores = dets[:, :4], dets[:, 4]
    order = actual[1].argsort(descending=True, stable=True)
    return [('boxes', actual[0][order], boxes), ('scores', actual[1][order], scores)]

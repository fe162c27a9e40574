"""Metric of rotated detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from ..registry import METRICS
from .rotated_average_precision import (
    RotatedBoxes,
    RotatedPrecision,
    mean_ap,
    rotated_average_precision,
)


@METRICS.register_module()
class RotatedBoxMetric(BaseMetric):
    """Mean average precision of rotated boxes, with the numbers of mmrotate's ``DOTAMetric``.

    That one starts four processes at each evaluation, which import all libraries: 40 seconds on two
    cores. This one computes in the process of the training, which is faster unless there are many
    thousand images. It does not write files for DOTA's server, as ``DOTAMetric`` does.

    Args:
        iou_thrs: IoU from which a prediction is right, one or several. Default: 0.5.
        eval_mode: ``'11points'`` (VOC 2007, DOTA) or ``'area'``. Default: ``'11points'``.
        collect_device: Where the results of several processes meet, ``'cpu'`` or ``'gpu'``.
            Default: ``'cpu'``.
        prefix: Prefix of the names in the log. Default: ``'dota'``.
    """

    default_prefix = 'dota'

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        eval_mode: str = '11points',
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.iou_thrs = [iou_thrs] if isinstance(iou_thrs, float) else list(iou_thrs)
        self.eval_mode = eval_mode

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keeps the boxes of a batch by class."""
        for sample in data_samples:
            found, true, ignored = (
                {name: values.cpu().numpy() for name, values in sample[key].items()}
                for key in ('pred_instances', 'gt_instances', 'ignored_instances')
            )
            self.results.append(
                [
                    RotatedBoxes(
                        found['bboxes'][found['labels'] == label],
                        found['scores'][found['labels'] == label],
                        true['bboxes'][true['labels'] == label],
                        ignored['bboxes'][ignored['labels'] == label],
                    )
                    for label in range(len(self.dataset_meta['classes']))
                ]
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Returns ``mAP``, the mean over all IoU, and ``AP50`` and the like, 0 to 1."""
        metrics = {}
        for iou in self.iou_thrs:
            classes = [
                rotated_average_precision(images, iou, self.eval_mode)
                for images in zip(*results, strict=True)
            ]
            print_log(f'IoU {iou}\n{self._table(classes)}', 'current')
            metrics[f'AP{100 * iou:.0f}'] = mean_ap(classes)
        return dict(mAP=float(np.mean(list(metrics.values()))), **metrics)

    def _table(self, classes: Sequence[RotatedPrecision]) -> str:
        from terminaltables import AsciiTable  # of mmdet

        rows: list[list[Any]] = [['class', 'objects', 'predictions', 'recall', 'AP']]
        for name, found in zip(self.dataset_meta['classes'], classes, strict=True):
            values = (f'{found.recall:.3f}', f'{found.ap:.3f}' if found.num_true else '-')
            rows.append([name, found.num_true, found.num_found, *values])
        return AsciiTable(rows).table

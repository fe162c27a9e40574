"""All data of a config, read to the last file; the fast checks are in ``data.py``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope

from ...errors import UserError
from ..palette import ignored_value
from .config_data import (
    annotation_problems,
    check_folders,
    config_problems,
    find_source,
    leaves,
    mask_problems_of,
)
from .findings import Problem
from .sample_inspection import SplitReport, inspect_samples, overlap_problems, split_problems


def inspect_data(
    config: Config, splits: Sequence[str], num_workers: int = 0, progress: bool = False
) -> dict[str, SplitReport]:
    """Reads all data of a config and says what is wrong with it.

    Args:
        config: A full config.
        splits: Of ``train``, ``val`` and ``test``.
        num_workers: Processes that read. Default: 0, this one.
        progress: Whether to show progress bars on standard error. Default: False.

    Returns:
        A report on each split.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    reports: dict[str, SplitReport] = {}
    for split in splits:
        if (
            split == 'test'
            and 'val' in reports
            and _dataset(config, 'val') == _dataset(config, split)
        ):
            reports[split] = reports['val'].of_split(split)
        else:
            reports[split] = _inspect_split(config, split, num_workers, progress)
    for split, report in reports.items():
        if split != 'train' and 'train' in reports:
            report.add(overlap_problems(report.files, reports['train'].files))
    return reports


def _dataset(config: Config, split: str) -> ConfigDict:
    return (config.get(f'{split}_dataloader') or {}).get('dataset', {})


def _inspect_split(config: Config, split: str, num_workers: int, progress: bool) -> SplitReport:
    report = SplitReport(split)
    report.add(config_problems(config, split))
    for dataset in leaves(_dataset(config, split)):
        with _noting_errors(report, dataset):
            check_folders(config, split, dataset)
            source = find_source(config, dataset)
            if source is not None:
                with _noting_errors(report, dataset):
                    report.add(annotation_problems(config, split, dataset, source))
                    report.add(mask_problems_of(config, source, single=False))
            num_classes = source.num_classes if source else None
            inspect_samples(
                report, _build(dataset), num_classes, num_workers, progress, ignored_value(config)
            )
    report.add(split_problems(report))
    return report


@contextmanager
def _noting_errors(report: SplitReport, dataset: ConfigDict) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        place = str(dataset.get('data_root') or report.split)
        report.add([(place, Problem('structure', str(error)))])


def _build(dataset: ConfigDict) -> Any:
    """A data set with all its samples, also those that training leaves out.

    Raises:
        UserError: If it cannot be loaded.
    """
    whole = {key: value for key, value in dataset.items() if key != 'filter_cfg'}
    try:
        built = DATASETS.build({**whole, 'lazy_init': True})
        built.ANN_ID_UNIQUE = False  # else mmdet stops at the first id that is there twice
        built.full_init()
    except Exception as error:  # each data set raises its own
        raise UserError(
            f'cannot be loaded ({type(error).__name__}: {error}), so its images were not looked '
            'at. Fix the annotations first.'
        ) from error
    return built

"""Checks that read every file of a data set, as ``tools/check_dataset.py`` does."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.config import Config, ConfigDict
from mmengine.fileio import get
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ...errors import UserError
from ..palette import ignored_value
from .config_data import check_folders, config_problems, find_source, leaves, split_dataset
from .findings import Problem, located
from .image_files import decoder_messages, decoding_settings, file_problem, format_problems
from .masks import highest_value
from .samples import labels_of, mask_problems, sample_problems


@dataclass
class SplitReport:
    """What a split contains.

    Args:
        split: ``train``, ``val`` or ``test``.
        problems: All faults.
        num_images: Number of samples that were read.
        num_per_class: By class name: images (classification), objects (detection), or images that
            show the class (segmentation).
        files: Image paths by the hash of their content.
    """

    split: str
    problems: list[Problem] = field(default_factory=list)
    num_images: int = 0
    num_per_class: Counter[str] = field(default_factory=Counter)
    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def count(self, severity: str) -> int:
        """Counts the faults of a severity, ``error`` or ``warning``."""
        return sum(problem.severity == severity for problem in self.problems)

    def add(self, problems: Iterable[Problem]) -> None:
        """Adds faults, without duplicates."""
        self.problems += dict.fromkeys(problems)


def inspect_data(
    config: Config, splits: Sequence[str], num_workers: int = 0, progress: bool = False
) -> dict[str, SplitReport]:
    """Reads all data of a config and finds their faults.

    Args:
        config: A full config.
        splits: Any of ``train``, ``val`` and ``test``.
        num_workers: Number of processes that read. Default: 0, this process.
        progress: Whether to show progress bars on standard error. Default: False.

    Returns:
        A report for each split.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    reports: dict[str, SplitReport] = {}
    val = split_dataset(config, 'val')
    for split in splits:
        if split == 'test' and 'val' in reports and split_dataset(config, split) == val:
            problems = list(reports['val'].problems)
            reports[split] = replace(reports['val'], split=split, problems=problems)
        else:
            reports[split] = _inspect_split(config, split, num_workers, progress)
    for split, report in reports.items():
        if split != 'train' and 'train' in reports:
            report.add(_overlap_problems(report.files, reports['train'].files))
    return reports


def _inspect_split(config: Config, split: str, num_workers: int, progress: bool) -> SplitReport:
    report = SplitReport(split)
    report.add(config_problems(config, split))
    for dataset in leaves(split_dataset(config, split)):
        with _noting_errors(report, dataset):
            check_folders(config, split, dataset)
            source = find_source(config, dataset)
            if source is not None:
                with _noting_errors(report, dataset):
                    report.add(source.problems(split))
                    report.add(source.content_problems(single=False))
            num_classes = source.num_classes if source else None
            samples = _Samples(_build(dataset), num_classes, ignored_value(config))
            _inspect_samples(report, samples, num_workers, progress)
    report.add(_split_problems(report))
    return report


@contextmanager
def _noting_errors(report: SplitReport, dataset: ConfigDict) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        place = str(dataset.get('data_root') or report.split)
        report.add([Problem('structure', str(error), place)])


def _build(dataset: ConfigDict) -> Any:
    """Builds a data set with all its samples, including those that training leaves out.

    Raises:
        UserError: If it cannot be loaded.
    """
    unfiltered = {key: value for key, value in dataset.items() if key != 'filter_cfg'}
    try:
        built = DATASETS.build({**unfiltered, 'lazy_init': True})
        # mmdet's switch for data sets with repeated ids, which it otherwise asserts against:
        # https://github.com/open-mmlab/mmdetection/blob/v3.3.0/mmdet/datasets/coco.py
        built.ANN_ID_UNIQUE = False
        built.full_init()
    except Exception as error:  # each data set raises its own
        raise UserError(
            f'cannot be loaded ({type(error).__name__}: {error}), so its images were not read. Fix '
            'the annotations first.'
        ) from error
    return built


def _inspect_samples(
    report: SplitReport, samples: _Samples, num_workers: int, progress: bool
) -> None:
    """Reads all samples of a data set and adds what they contain to the report of the split."""
    if samples.reader is None:  # the images are in memory already
        report.num_images += len(samples)
        return
    loader = DataLoader(samples, batch_size=None, num_workers=num_workers)
    known = {(problem.file, problem.kind) for problem in report.problems}
    # A file of labels names the line instead of the image.
    knows_labels = any(kind == 'label_range' for _, kind in known)
    names = samples.names
    for sample in tqdm(loader, report.split, len(samples), unit='image', disable=not progress):
        report.num_images += 1
        report.num_per_class.update(names[i] if names else str(i) for i in sample.labels)
        if sample.digest is not None:
            report.files[sample.digest].append(sample.file)
        report.add(
            problem
            for problem in sample.problems
            if (problem.file, problem.kind) not in known
            and not (knows_labels and problem.kind == 'label_range')
        )
    for name in names:
        report.num_per_class.setdefault(name, 0)


def _split_problems(report: SplitReport) -> Iterator[Problem]:
    """Yields images with the same bytes, and classes without a training example."""
    for paths in report.files.values():
        first, *others = dict.fromkeys(paths)
        for path in others:
            yield Problem('duplicate_image', f'is the same image as {first}.', path)
    if report.num_per_class and not report.num_per_class.total() and not report.count('error'):
        detail = f'has no example of any class in {report.num_images:,} images.'
        yield Problem('no_objects', detail, f'The data of {report.split}')
    elif report.split == 'train':
        for name, count in report.num_per_class.items():
            if not count:
                yield Problem('empty_class', f'has no example of {name!r}.', 'The training data')


def _overlap_problems(
    files: Mapping[str, Sequence[str]], training: Mapping[str, Sequence[str]]
) -> Iterator[Problem]:
    """Yields images of a split that have the same bytes as an image of training."""
    for digest in files.keys() & training.keys():
        for path in files[digest]:
            yield Problem('split_overlap', f'is in the training data: {training[digest][0]}.', path)


@dataclass
class _SampleReport:
    """What a sample contains.

    Args:
        file: The path of the image.
        labels: The class of the image, of each object, or of each region of its mask.
        problems: Its faults.
        digest: Hash of the bytes of the image file; None if it cannot be read.
    """

    file: str
    labels: list[int]
    problems: list[Problem] = field(default_factory=list)
    digest: str | None = None

    def add(self, path: str, *problems: Problem) -> None:
        """Adds faults of a file."""
        self.problems += located(path, problems)


class _Samples(Dataset):
    """Reports on the samples of a data set.

    Args:
        dataset: A data set of mmengine. Only the loading steps of its pipeline are used.
        num_classes: Number of classes; None if unknown.
        ignored: Value of mask pixels that the loss ignores.
    """

    def __init__(self, dataset: Any, num_classes: int | None, ignored: int) -> None:
        self.dataset = dataset
        self.names = list(map(str, dataset.metainfo.get('classes') or range(num_classes or 0)))
        self.num_classes = num_classes or len(self.names) or None
        self.ignored = ignored
        steps = dataset.pipeline.transforms
        self.reader: Any = next((s for s in steps if isinstance(s, LoadImageFromFile)), None)
        self.loaders = [step for step in steps if isinstance(step, LoadAnnotations)]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> _SampleReport:
        sample = self.dataset.get_data_info(index)
        report = _SampleReport(sample['img_path'], self._known(labels_of(sample)))
        settings = decoding_settings(self.reader)
        content = self._read(report, report.file, 'missing_image', *settings)
        if content is None:
            return report
        report.digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        with decoder_messages() as messages:
            failure = _run([self.reader], sample)
        if failure is not None:
            report.add(report.file, _undecodable(failure, content))
            return report
        if messages:
            report.add(report.file, Problem('corrupt', f'is damaged: {messages[0]}.'))
        report.add(report.file, *format_problems(content, *settings))
        report.add(report.file, *sample_problems(sample, self.num_classes))
        has_mask = hasattr(self.dataset, 'reduce_zero_label') and sample.get('seg_map_path')
        if has_mask and not self._inspect_mask(sample, report):
            return report
        failure = _run(self.loaders, sample)
        if failure is not None:
            detail = f'has annotations that cannot be loaded ({failure!r}).'
            report.add(report.file, Problem('malformed', detail))
        return report

    def _read(self, report: _SampleReport, path: str, missing: str, *settings: str) -> bytes | None:
        """Returns the content of a file; None if it is unusable, which the report then has."""
        try:
            content = get(path, backend_args=self.reader.backend_args)
            problem = file_problem(content, *settings)
        except FileNotFoundError:
            problem = Problem(missing, 'does not exist.')
        except OSError as error:
            problem = Problem('unreadable', f'cannot be read: {error}.')
        if problem is None:
            return content
        report.add(path, problem)
        return None

    def _inspect_mask(self, sample: dict, report: _SampleReport) -> bool:
        """Checks a mask as it is stored; returns whether it can be loaded."""
        path = sample['seg_map_path']
        content = self._read(report, path, 'missing_mask')
        if content is None:
            return False
        try:
            mask = _decode_mask(content)
        except Exception as error:  # decoders raise anything
            report.add(path, _undecodable(error, content))
            return False
        if self.num_classes is not None:
            height, width = sample['ori_shape']
            shift = self.dataset.reduce_zero_label
            highest = highest_value(sample, self.num_classes, shift)
            problems = mask_problems(mask, (width, height), highest, self.num_classes, self.ignored)
            report.add(path, *problems)
            label_map = sample.get('label_map') or {}
            values = [int(value) - shift for value in np.unique(mask)]
            report.labels = self._known(label_map.get(value, value) for value in values)
        return True

    def _known(self, labels: Iterable[int]) -> list[int]:
        """Keeps the labels that a class has."""
        highest = float('inf') if self.num_classes is None else self.num_classes - 1
        return [label for label in labels if 0 <= label <= highest]


def _run(steps: Iterable[Callable[[dict], Any]], sample: dict) -> Exception | None:
    """Applies loading steps to a sample, and returns the exception that they raise."""
    try:
        for step in steps:
            step(sample)
    except Exception as error:  # decoders raise anything
        return error
    return None


def _decode_mask(content: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(content)) as image:
            image.verify()  # the checksums of a PNG; the image cannot be used after it
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(image)


def _undecodable(error: Exception, content: bytes) -> Problem:
    """Describes a file that its decoder refuses."""
    message = ' '.join(str(error).split()) or type(error).__name__
    return Problem(
        'unreadable',
        f'cannot be decoded as an image ({message[:200]}); it begins with {content[:16]!r}.',
    )

"""Every sample of a data set, read as training reads it, and everything that is wrong with it."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.fileio import get
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..palette import IGNORED
from .annotation_files import highest_value
from .annotations import Located
from .findings import Finding, Problem
from .image_files import decoder_messages, file_problem, format_problems
from .samples import labels_of, mask_problems, sample_problems


@dataclass
class SampleReport:
    """What one sample holds.

    Args:
        file: Path of its image.
        problems: Paths of files at fault, and the faults.
        labels: The class of the image, of each object, or of each region of its mask.
        digest: Of the image file's bytes; None where it cannot be read.
    """

    file: str
    problems: list[Located] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    digest: str | None = None

    def add(self, path: str, *problems: Problem) -> None:
        """Notes faults of a file."""
        self.problems += [(path, problem) for problem in problems]


@dataclass
class SplitReport:
    """What a split holds.

    Args:
        split: ``train``, ``val`` or ``test``.
        findings: All faults.
        num_images: Samples looked at.
        num_per_class: By name, images (classification), objects (detection) or images that show
            it (segmentation).
        files: Paths by the digest of their content.
    """

    split: str
    findings: list[Finding] = field(default_factory=list)
    num_images: int = 0
    num_per_class: Counter[str] = field(default_factory=Counter)
    files: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def count(self, severity: str) -> int:
        """How many faults are an ``error`` or a ``warning``."""
        return sum(finding.severity == severity for finding in self.findings)

    def of_split(self, split: str) -> SplitReport:
        """The same report for another split of the same data."""
        findings = [replace(finding, split=split) for finding in self.findings]
        return replace(self, split=split, findings=findings)

    def add(self, problems: Iterable[Located]) -> None:
        """Takes up faults, once each."""
        found = [Finding(self.split, file, *problem) for file, problem in problems]
        self.findings += dict.fromkeys(found)


def inspect_samples(
    report: SplitReport,
    dataset: Any,
    num_classes: int | None = None,
    num_workers: int = 0,
    progress: bool = False,
    ignored: int = IGNORED,
) -> None:
    """Reads all samples of a data set.

    Args:
        report: Of the split, which is added to.
        dataset: One of mmengine's. What its pipeline does after loading is left out.
        num_classes: None where neither data set nor model say.
        num_workers: Processes. Default: 0, in this one.
        progress: Whether to show a progress bar on standard error. Default: False.
        ignored: Value of pixels of masks that do not count. Default: 255.
    """
    names = list(map(str, dataset.metainfo.get('classes') or range(num_classes or 0)))
    num_classes = num_classes or len(names) or None
    readers = [step for step in dataset.pipeline.transforms if isinstance(step, LoadImageFromFile)]
    if not readers:  # images that are in memory already
        report.num_images += len(dataset)
        return
    loaders = [step for step in dataset.pipeline.transforms if isinstance(step, LoadAnnotations)]
    samples = _Samples(dataset, readers[0], loaders, num_classes, ignored)
    reports = DataLoader(samples, batch_size=None, num_workers=num_workers, collate_fn=_as_it_is)
    known = {(finding.file, finding.kind) for finding in report.findings}
    for sample in tqdm(reports, report.split, len(dataset), unit='image', disable=not progress):
        report.num_images += 1
        report.num_per_class.update(names[i] if names else str(i) for i in sample.labels)
        if sample.digest is not None:
            report.files[sample.digest].append(sample.file)
        report.add(fault for fault in sample.problems if not _is_known(fault, known))
    for name in names:
        report.num_per_class.setdefault(name, 0)


def _is_known(located: Located, known: Set[tuple[str, str]]) -> bool:
    """Whether the annotation file has told of a fault already; of labels it names the line."""
    file, problem = located
    labels_are = problem.kind == 'label_range' and any(kind == 'label_range' for _, kind in known)
    return labels_are or (file, problem.kind) in known


def _as_it_is(sample: SampleReport) -> SampleReport:
    return sample


def split_problems(report: SplitReport) -> Iterator[Located]:
    """What is wrong with a split as a whole: images that are the same, byte by byte, and classes
    that training never sees."""
    for paths in report.files.values():
        first, *others = dict.fromkeys(paths)
        for path in others:
            yield path, Problem('duplicate_image', f'is the same image as {first}.')
    if report.num_per_class and not report.num_per_class.total() and not report.count('error'):
        yield (
            f'The data of {report.split}',
            Problem('no_objects', f'has no example of any class in {report.num_images:,} images.'),
        )
    elif report.split == 'train':
        for name, count in report.num_per_class.items():
            if not count:
                yield 'The training data', Problem('empty_class', f'has no example of {name!r}.')


def overlap_problems(
    files: Mapping[str, Sequence[str]], training: Mapping[str, Sequence[str]]
) -> Iterator[Located]:
    """Images of a split that are among those of training, byte by byte."""
    for digest in files.keys() & training.keys():
        for path in files[digest]:
            yield path, Problem('split_overlap', f'is in the training data: {training[digest][0]}.')


class _Samples(Dataset):
    """A report on each sample of a data set."""

    def __init__(
        self,
        dataset: Any,
        reader: LoadImageFromFile,
        loaders: Sequence[LoadAnnotations],
        num_classes: int | None,
        ignored: int,
    ) -> None:
        self.dataset = dataset
        self.reader = reader
        self.loaders = loaders
        self.num_classes = num_classes
        self.ignored = ignored

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> SampleReport:
        sample = self.dataset.get_data_info(index)
        report = SampleReport(sample['img_path'], labels=self._known(labels_of(sample)))
        content = self._read(report.file, 'missing_image', report)
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
        settings = self.reader.imdecode_backend, self.reader.color_type
        report.add(report.file, *format_problems(content, *settings))
        self._look_at_annotations(sample, report)
        return report

    def _read(self, path: str, missing: str, report: SampleReport) -> bytes | None:
        """The content of a file; None if it is of no use, which the report says."""
        try:
            content = get(path, backend_args=self.reader.backend_args)
        except FileNotFoundError:
            report.add(path, Problem(missing, 'is not there.'))
            return None
        except OSError as error:
            report.add(path, Problem('unreadable', f'cannot be read: {error}.'))
            return None
        problem = file_problem(content)
        if problem is not None:
            report.add(path, problem)
            return None
        return content

    def _look_at_annotations(self, sample: dict, report: SampleReport) -> None:
        report.add(report.file, *sample_problems(sample, self.num_classes))
        has_mask = hasattr(self.dataset, 'reduce_zero_label') and sample.get('seg_map_path')
        if has_mask and not self._look_at_mask(sample, report):
            return
        failure = _run(self.loaders, sample)
        if failure is not None:
            problem = Problem('malformed', f'has annotations that cannot be loaded ({failure!r}).')
            report.add(report.file, problem)

    def _look_at_mask(self, sample: dict, report: SampleReport) -> bool:
        """Looks at a mask as its file has it; returns whether it can be loaded."""
        path = sample['seg_map_path']
        content = self._read(path, 'missing_mask', report)
        if content is None:
            return False
        try:
            mask = _decode_mask(content)
        except Exception as error:  # decoders raise anything
            report.add(path, _undecodable(error, content))
            return False
        if self.num_classes is not None:
            height, width = sample['ori_shape']
            highest = highest_value(sample, self.num_classes, self.dataset.reduce_zero_label)
            problems = mask_problems(mask, (width, height), highest, self.num_classes, self.ignored)
            report.add(path, *problems)
            report.labels = self._classes_in(np.unique(mask), sample)
        return True

    def _classes_in(self, values: np.ndarray, sample: dict) -> list[int]:
        shifted = [int(value) - self.dataset.reduce_zero_label for value in values]
        return self._known((sample.get('label_map') or {}).get(value, value) for value in shifted)

    def _known(self, labels: Iterable[int]) -> list[int]:
        """Those that classes have."""
        highest = float('inf') if self.num_classes is None else self.num_classes - 1
        return [label for label in labels if 0 <= label <= highest]


def _run(steps: Iterable[Callable[[dict], Any]], sample: dict) -> Exception | None:
    """Lets loading steps fill in a sample; returns what they raise."""
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
    """What to say of a file that its decoder refuses."""
    message = ' '.join(str(error).split()) or type(error).__name__
    return Problem(
        'unreadable',
        f'is no image that can be decoded ({message[:200]}); it begins with {content[:16]!r}.',
    )

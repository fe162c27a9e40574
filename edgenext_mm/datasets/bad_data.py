"""What training does about a sample that cannot be used: it stops and names the file, or takes
the next sample and notes the file in a list.

A config says which, at its top level::

    bad_data = dict(policy='skip', max_fraction=0.01)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.fileio import get
from mmengine.registry import DATASETS

from ..errors import UserError
from .annotations import coco_object_problems
from .checks import read_coco
from .findings import Problem
from .image_files import file_problem, mask_file_problem
from .multi_scale_sampler import SizedIndex
from .samples import sample_problems

POLICIES = ('stop', 'skip')


@dataclass(frozen=True)
class BadDataPolicy:
    """What to do about bad samples of the training data; those of validation always stop.

    Args:
        policy: ``stop`` or ``skip``. Default: ``stop``.
        max_fraction: Of the training images that ``skip`` may skip; more of them stop the
            training. Default: 0.01.
    """

    policy: str = 'stop'
    max_fraction: float = 0.01

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> BadDataPolicy:
        """The policy that a config asks for.

        Raises:
            UserError: If it is none.
        """
        chosen = config.get('bad_data') or {}
        unknown = set(chosen) - {'policy', 'max_fraction'}
        self = cls(**{key: value for key, value in chosen.items() if key not in unknown})
        fraction = self.max_fraction
        is_fraction = isinstance(fraction, int | float) and 0 <= fraction <= 1
        if unknown or self.policy not in POLICIES or not is_fraction:
            raise UserError(
                f'`bad_data` is {dict(chosen)!r}. It takes `policy`, one of '
                f'{", ".join(map(repr, POLICIES))}, and `max_fraction`, 0 to 1; for instance '
                "`bad_data = dict(policy='skip', max_fraction=0.01)`."
            )
        return self

    @property
    def skips(self) -> bool:
        """Whether training goes on without bad samples."""
        return self.policy == 'skip'


class BadSampleError(UserError):
    """A sample that cannot be used.

    torch hands an error of a worker process on with that process's traceback before it; of that,
    what the error itself said is kept.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.rpartition(f'{type(self).__name__}: ')[2].strip())


class BadSampleList:
    """The files that a training has skipped, one line of JSON each; shared by its processes.

    Args:
        path: Of the list. It is made when there is something to note.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def size(self) -> int:
        """Of the list in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[dict[str, str]]:
        """What is noted, as dicts of ``file`` and ``error``."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def add(self, file: str, error: str, limit: float) -> None:
        """Notes a file, once.

        Args:
            file: Its path.
            error: What is wrong with it.
            limit: How many files may be noted.

        Raises:
            BadSampleError: If there are more now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix('.lock')):
            noted = {entry['file'] for entry in self.read()}
            if file not in noted:
                with self.path.open('a') as list_file:
                    list_file.write(json.dumps(dict(file=file, error=error)) + '\n')
        if len(noted | {file}) > limit:
            raise BadSampleError(
                f'{len(noted | {file})} training images cannot be used, more than the {limit:g} '
                f'that `bad_data` allows; {self.path} lists them. The last: {file} {error} '
                f'Mend them, or allow more with `bad_data.max_fraction`.'
            )


def guarded_dataset(dataset: dict[str, Any], policy: BadDataPolicy, skipped: BadSampleList) -> Any:
    """Builds a data set of any library that refuses bad samples, or skips them.

    Args:
        dataset: Its config.
        policy: What to do about a bad sample.
        skipped: Where skipped files are noted.

    Returns:
        The data set itself, of its own type. Those within it that read files are guarded.

    Raises:
        UserError: If samples are to be skipped in a data set that is none of mmengine's.
    """
    built = DATASETS.build(dataset)
    if hasattr(built, 'full_init'):
        built.full_init()
    readers = list(_readers(built))
    if policy.skips and not all(hasattr(reader, 'prepare_data') for reader in readers):
        raise UserError(
            f"`bad_data.policy='skip'` takes data sets that derive from mmengine's BaseDataset; "
            f'{type(built).__name__} does not.'
        )
    limit = policy.max_fraction * sum(map(len, readers))
    for reader in readers:
        if hasattr(reader, 'prepare_data'):
            reader.prepare_data = SampleGuard(reader, skipped if policy.skips else None, limit)
    return built


def _readers(dataset: Any) -> Iterator[Any]:
    """The data sets within wrappers: RepeatDataset, ConcatDataset and the like."""
    own = [dataset.dataset] if hasattr(dataset, 'dataset') else []
    inner = getattr(dataset, 'datasets', own)
    for child in inner:
        yield from _readers(child)
    if not inner:
        yield dataset


class SampleGuard:
    """Takes the place of ``prepare_data`` of one data set.

    Files and annotations are checked on the way through the pipeline. The sample that stands in
    for a bad one is the next good one of the data set, so that it does not depend on chance.

    Args:
        dataset: One that derives from mmengine's BaseDataset, fully initialised.
        skipped: Where skipped files are noted. None: a bad sample is an error.
        limit: How many files may be skipped.
    """

    def __init__(self, dataset: Any, skipped: BadSampleList | None, limit: float) -> None:
        self.dataset = dataset
        self.skipped = skipped
        self.limit = limit
        self._prepare_data = dataset.prepare_data
        self._pipeline: Compose | None = None
        self._left_out = _left_out(dataset) if skipped else {}

    def __call__(self, index: int) -> Any:
        """The sample of an index, as the pipeline leaves it, or that of the next good one.

        Raises:
            BadSampleError: If it is bad and is not to be skipped.
        """
        if self.dataset.pipeline is not self._pipeline:  # some recipes change it midway
            self._pipeline = self.dataset.pipeline
            insert_checks(self._pipeline, self.dataset.metainfo.get('classes'))
        for _ in range(len(self.dataset)):
            try:
                return self._prepare(index)
            except _Refused as refused:
                if self.skipped is None:
                    raise BadSampleError(
                        f'{refused} tools/check_dataset.py finds all such files; '
                        "`bad_data = dict(policy='skip')` in the config trains without them."
                    ) from refused
                self.skipped.add(refused.file, refused.detail, self.limit)
            index = _following(index, len(self.dataset))
        raise BadSampleError(f'Not one of the {len(self.dataset)} samples can be used.')

    def _prepare(self, index: int) -> Any:
        file = str(self.dataset.get_data_info(index).get('img_path', f'sample {int(index)}'))
        if file in self._left_out:
            raise _Refused(file, self._left_out[file])
        try:
            return self._prepare_data(index)
        except (_Refused, MemoryError):
            raise
        except Exception as failure:  # decoders and transforms raise anything
            message = ' '.join(str(failure).split()).rstrip('.')
            raise _Refused(file, f'failed with {type(failure).__name__}: {message}.') from failure


class _Refused(Exception):  # noqa: N818  (never leaves this module)
    """What makes a sample a bad one: a file, and the rest of a sentence about it."""

    def __init__(self, file: str, detail: str) -> None:
        super().__init__(f'{file} {detail}')
        self.file, self.detail = file, detail


def _following(index: int, length: int) -> int:
    following = (int(index) + 1) % length
    return index.moved(following) if isinstance(index, SizedIndex) else following


def _left_out(dataset: Any) -> dict[str, str]:
    """Images with objects that mmdet leaves out unsaid, so that a pipeline cannot see them."""
    if 'CocoDataset' not in {kind.__name__ for kind in type(dataset).__mro__}:
        return {}
    problems = coco_object_problems(read_coco(dataset.ann_file), dataset.data_prefix['img'])
    return {file: problem.detail for file, problem in problems if problem.is_error}


def insert_checks(pipeline: Compose, classes: Any) -> None:
    """Adds checks to a pipeline, before files are read and after annotations are loaded.

    Args:
        pipeline: Changed in place.
        classes: Of the data set, or None.
    """
    steps = pipeline.transforms
    readers = [i for i, step in enumerate(steps) if isinstance(step, LoadImageFromFile)]
    loaders = [i for i, step in enumerate(steps) if isinstance(step, LoadAnnotations)]
    if not readers or any(isinstance(step, CheckFiles) for step in steps):
        return
    num_classes = None if classes is None else len(classes)
    with_masks = any(steps[i].with_seg for i in loaders)
    steps.insert((loaders or readers)[-1] + 1, CheckSample(num_classes))
    steps.insert(readers[0], CheckFiles(with_masks, steps[readers[0]].backend_args))


class CheckFiles:
    """A step that refuses files of images and masks that are empty or cut short.

    Args:
        with_masks: Whether the pipeline reads masks.
        backend_args: Of mmengine's file backend. Default: None, files on disk.
    """

    def __init__(self, with_masks: bool, backend_args: dict | None = None) -> None:
        self.with_masks = with_masks
        self.backend_args = backend_args

    def __call__(self, results: dict) -> dict:
        """Reads the files; the step that loads them finds them in memory."""
        self._check(results['img_path'], file_problem)
        if self.with_masks and results.get('seg_map_path'):
            self._check(results['seg_map_path'], mask_file_problem)
        return results

    def _check(self, path: str, check: Callable[[bytes], Problem | None]) -> None:
        problem = check(get(path, backend_args=self.backend_args))
        if problem is not None:
            raise _Refused(path, problem.detail)


class CheckSample:
    """A step that refuses samples whose annotations cannot be.

    Args:
        num_classes: None where the data set does not say.
    """

    def __init__(self, num_classes: int | None) -> None:
        self.num_classes = num_classes

    def __call__(self, results: dict) -> dict:
        """Looks at what the loading steps have left."""
        for problem in sample_problems(results, self.num_classes):
            if problem.is_error:
                of_mask = problem.kind.startswith('mask_')
                raise _Refused(results['seg_map_path' if of_mask else 'img_path'], problem.detail)
        return results

"""What training does about a sample that cannot be loaded: it stops and names the file, or takes
the next sample and notes the file in a list.

A config says which, at its top level::

    bad_data = dict(policy='skip', max_fraction=0.01)
    bad_data = None  # no checks
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmcv.transforms import LoadAnnotations, LoadImageFromFile
from mmengine.dataset import BaseDataset, Compose
from mmengine.fileio import BaseStorageBackend, get, get_text, register_backend
from mmengine.registry import DATASETS

from ..errors import UserError
from .checks.annotation_files import read_coco
from .checks.annotations import coco_object_problems
from .checks.image_files import file_problem, mask_file_problem
from .checks.samples import sample_problems
from .multi_scale_sampler import SizedIndex
from .palette import IGNORED

POLICIES = ('stop', 'skip')
#: The packages whose classes ``Load...`` load images and annotations.
_LIBRARIES = ('mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmrotate')


@dataclass(frozen=True)
class BadDataPolicy:
    """What to do about bad samples of the training data; those of validation always stop.

    Args:
        policy: ``stop`` or ``skip``; ``off`` where the config has ``bad_data=None``. Default:
            ``stop``.
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
        chosen = config.get('bad_data', {})
        if chosen is None:
            return cls('off')
        unknown = set(chosen) - {'policy', 'max_fraction'}
        self = cls(**{key: value for key, value in chosen.items() if key not in unknown})
        fraction = self.max_fraction
        is_fraction = isinstance(fraction, int | float) and 0 <= fraction <= 1
        if unknown or self.policy not in POLICIES or not is_fraction:
            raise UserError(
                f'`bad_data` is {dict(chosen)!r}. It takes `policy`, one of '
                f'{", ".join(map(repr, POLICIES))}, and `max_fraction`, 0 to 1; for instance '
                "`bad_data = dict(policy='skip', max_fraction=0.01)`, or None for no checks."
            )
        return self

    @property
    def checks(self) -> bool:
        """Whether samples are checked as they are loaded."""
        return self.policy != 'off'

    @property
    def skips(self) -> bool:
        """Whether training continues without bad samples."""
        return self.policy == 'skip'


class BadSampleError(UserError):
    """A sample that cannot be used.

    torch raises an error of a worker process again in the main process, with that process's
    traceback in its message. The message is then what the error itself said, and the traceback is
    the cause.
    """

    def __init__(self, message: str) -> None:
        before, _, own = message.rpartition(f'{type(self).__name__}: ')
        super().__init__(own.strip())
        if before:
            self.__cause__ = WorkerError(message)


class WorkerError(Exception):
    """The traceback of an error in a worker process, as text."""


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
                f'Fix them, or allow more with `bad_data.max_fraction`.'
            )


def guarded_dataset(
    dataset: Any, policy: BadDataPolicy, skipped: BadSampleList, ignored: int = IGNORED
) -> Any:
    """Builds a data set of any library that refuses bad samples, or skips them.

    Only loading is guarded: errors of other transforms are raised unchanged.

    Args:
        dataset: Its config, or the data set.
        policy: What to do about a bad sample.
        skipped: Where skipped files are noted.
        ignored: Value of pixels of masks that do not count. Default: 255.

    Returns:
        The data set. Those within it that read files are of subclasses of their classes; data
        sets that are built already are returned as they are.

    Raises:
        UserError: If there is no sample, or samples are to be skipped in a data set that is none
            of mmengine's.
    """
    try:
        built = DATASETS.build(_guarded(dataset)) if isinstance(dataset, Mapping) else dataset
        if hasattr(built, 'full_init'):
            built.full_init()
    except ValueError as error:
        if 'need at least one array to concatenate' not in str(error):
            raise
        raise UserError(
            f'A data set has no sample, or none that its `filter_cfg` keeps: {dict(dataset)!r}.'
        ) from error
    readers = list(_readers(built))
    if policy.skips and not all(isinstance(reader, GuardedSamples) for reader in readers):
        raise UserError(
            "`bad_data.policy='skip'` takes configs of data sets that derive from mmengine's "
            f'BaseDataset; {type(built).__name__} does not.'
        )
    limit = policy.max_fraction * sum(map(len, readers))
    for reader in readers:
        if isinstance(reader, GuardedSamples):
            reader.guard(skipped if policy.skips else None, limit, ignored)
    return built


def _guarded(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a data set with guarded classes for those within it that read files."""
    dataset = dict(dataset)
    if 'datasets' in dataset:
        dataset['datasets'] = [
            _guarded(child) if isinstance(child, Mapping) else child
            for child in dataset['datasets']
        ]
    elif isinstance(dataset.get('dataset'), Mapping):
        dataset['dataset'] = _guarded(dataset['dataset'])
    else:
        kind: Any = dataset.get('type')
        if isinstance(kind, str):
            with DATASETS.switch_scope_and_registry(dataset.get('_scope_')) as datasets:
                kind = datasets.get(kind)
        if isinstance(kind, type) and issubclass(kind, BaseDataset):
            dataset['type'] = _guarded_class(kind)
    return dataset


@functools.cache
def _guarded_class(kind: Any) -> type[GuardedSamples]:
    """A subclass, under the same name, whose samples are guarded."""
    return type(kind.__name__, (GuardedSamples, kind), dict(__doc__=kind.__doc__))


def _restore(kind: Any, state: dict[str, Any]) -> BaseDataset:
    dataset = object.__new__(_guarded_class(kind))
    dataset.__dict__.update(state)
    return dataset


def _readers(dataset: Any) -> Iterator[Any]:
    """The data sets within wrappers: RepeatDataset, ConcatDataset and the like."""
    own = [dataset.dataset] if hasattr(dataset, 'dataset') else []
    inner = getattr(dataset, 'datasets', own)
    for child in inner:
        yield from _readers(child)
    if not inner:
        yield dataset


class GuardedSamples(BaseDataset):
    """What is added to a class of data sets, so that bad samples are refused or skipped.

    Files and annotations are checked on the way through the pipeline. The sample that stands in
    for a bad one is the next good one of the data set, so that it does not depend on chance.
    """

    pipeline: Any
    _checks: bool = False

    def guard(self, skipped: BadSampleList | None, limit: float, ignored: int) -> None:
        """Begins to check samples.

        Args:
            skipped: Where skipped files are noted. None: a bad sample is an error.
            limit: How many files may be skipped.
            ignored: Value of pixels of masks that do not count.
        """
        self._checks, self._skipped = True, skipped
        self._limit, self._ignored = limit, ignored
        self._left_out = _left_out(self) if skipped else {}

    def prepare_data(self, idx: int) -> Any:
        """The sample of an index, as the pipeline leaves it, or that of the next good one.

        Raises:
            BadSampleError: If it is bad and is not to be skipped.
        """
        if not self._checks:
            return super().prepare_data(idx)
        pipeline = self.pipeline  # some recipes replace it midway
        if isinstance(pipeline, Compose) and not isinstance(pipeline, GuardedPipeline):
            classes = self.metainfo.get('classes')
            self.pipeline = GuardedPipeline(pipeline.transforms, classes, self._ignored)
        for _ in range(len(self)):
            try:
                return self._prepare(idx)
            except _Refused as refused:
                if self._skipped is None:
                    raise BadSampleError(
                        f'{refused} tools/check_dataset.py finds all such files; '
                        "`bad_data = dict(policy='skip')` in the config trains without them."
                    ) from refused
                self._skipped.add(refused.file, refused.detail, self._limit)
            idx = _following(idx, len(self))
        raise BadSampleError(f'Not one of the {len(self)} samples can be used.')

    def _prepare(self, idx: int) -> Any:
        if self._left_out:
            file = self.get_data_info(idx)['img_path']
            if file in self._left_out:
                raise _Refused(file, self._left_out[file])
        return super().prepare_data(idx)

    def __reduce__(self) -> tuple:
        # The class is made at run time, so that other processes make it anew.
        return _restore, (type(self).__mro__[2], self.__dict__)


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


class GuardedPipeline(Compose):
    """A pipeline that checks files as they are read, and samples once they are loaded.

    An error of a step that loads images or annotations is one of the sample. All others are
    raised unchanged.

    Args:
        transforms: The steps. Those that load keep their types, and read files through
            :class:`CheckedBackend`.
        classes: Names of the classes of the data set, or None.
        ignored: Value of pixels of masks that do not count. Default: 255.
    """

    def __init__(self, transforms: list[Any], classes: Any, ignored: int = IGNORED) -> None:
        super().__init__(transforms)
        self.ignored = ignored
        self.num_classes = None if classes is None else len(classes)
        self._loaders = [step for step in transforms if _is_loader(step)]
        self._has_images = any(isinstance(step, LoadImageFromFile) for step in self._loaders)
        for step in self._loaders:
            if hasattr(step, 'backend_args') and not _is_checked(step.backend_args):
                step.backend_args = dict(
                    backend='edgenext_mm_checked',
                    masks=isinstance(step, LoadAnnotations),
                    backend_args=step.backend_args,
                )

    def __call__(self, data: dict) -> dict | None:
        """Applies the steps."""
        for step in self.transforms:
            is_loader = any(step is loader for loader in self._loaders)
            result = self._load(step, data) if is_loader else step(data)
            if result is None:
                return None
            data = result
            if self._has_images and step is self._loaders[-1]:
                _check_sample(data, self.num_classes, self.ignored)
        return data

    def _load(self, step: Any, data: dict) -> dict | None:
        try:
            return step(data)
        except (_Refused, MemoryError):
            raise
        except Exception as failure:  # decoders raise anything
            message = ' '.join(str(failure).split()).rstrip('.')
            of_mask = getattr(step, 'with_seg', False) and not getattr(step, 'with_bbox', False)
            file = data.get('seg_map_path') if of_mask else None
            file = file or data.get('img_path') or f'sample {data.get("sample_idx")}'
            raise _Refused(file, f'failed with {type(failure).__name__}: {message}.') from failure


def _is_loader(step: Any) -> bool:
    """Whether a step loads images or annotations: ``Load...`` of OpenMMLab, or derived from it."""
    return any(
        kind.__name__.startswith('Load') and kind.__module__.partition('.')[0] in _LIBRARIES
        for kind in type(step).__mro__
    )


def _is_checked(backend_args: Mapping[str, Any] | None) -> bool:
    return (backend_args or {}).get('backend') == 'edgenext_mm_checked'


@register_backend('edgenext_mm_checked')
class CheckedBackend(BaseStorageBackend):
    """Reads files by another backend of mmengine; refuses images that are empty or cut short.

    The steps of a pipeline read through it, so that each file is fetched once.

    Args:
        masks: Whether the files are masks. Default: False.
        backend_args: Of the backend that reads. Default: None, by the prefix of the path.
    """

    def __init__(self, masks: bool = False, backend_args: dict | None = None) -> None:
        self.masks = masks
        self.backend_args = backend_args

    def get(self, filepath: str | Path) -> bytes:
        """The content of a file."""
        content = get(filepath, backend_args=self.backend_args)
        problem = mask_file_problem(content) if self.masks else file_problem(content)
        if problem is not None:
            raise _Refused(str(filepath), problem.detail)
        return content

    def get_text(self, filepath: str | Path, encoding: str = 'utf-8') -> str:
        """The content of a text file, which is not checked."""
        return get_text(filepath, encoding, backend_args=self.backend_args)


def _check_sample(results: dict, num_classes: int | None, ignored: int) -> None:
    """Refuses a sample whose annotations are impossible."""
    for problem in sample_problems(results, num_classes, ignored):
        if problem.is_error:
            of_mask = problem.kind.startswith('mask_')
            raise _Refused(results['seg_map_path' if of_mask else 'img_path'], problem.detail)

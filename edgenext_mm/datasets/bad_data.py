"""Refuses or skips training samples that cannot be loaded.

A config chooses at its top level::

    bad_data = dict(policy='skip', max_fraction=0.01)
    bad_data = None  # no checks
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmcv.transforms import LoadAnnotations
from mmengine.dataset import BaseDataset, Compose
from mmengine.fileio import BaseStorageBackend, get, get_text, register_backend
from mmengine.registry import DATASETS

from ..errors import UserError
from .checks.coco import object_problems, read_coco
from .checks.image_files import decoding_settings, file_problem, mask_file_problem
from .checks.samples import sample_problems
from .multi_scale_sampler import SizedIndex
from .palette import IGNORED

POLICIES = ('stop', 'skip')
#: Packages whose classes ``Load...`` load images and annotations.
_LIBRARIES = ('mmcv', 'mmpretrain', 'mmdet', 'mmseg', 'mmrotate')


@dataclass(frozen=True)
class BadDataPolicy:
    """What to do about bad samples of the training data. Validation and testing always stop.

    Args:
        policy: ``stop`` or ``skip``; ``off`` if the config has ``bad_data=None``. Default:
            ``stop``.
        max_fraction: Fraction of the training images that ``skip`` may skip. More of them stop the
            training. Default: 0.01.
    """

    policy: str = 'stop'
    max_fraction: float = 0.01

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> BadDataPolicy:
        """Reads the policy of a config.

        Raises:
            UserError: If ``bad_data`` is not a valid policy.
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
    """A sample cannot be used.

    torch raises an error of a worker process again in the main process, with the traceback of the
    worker in its message. The message is then the original one, and the traceback is the cause.
    """

    def __init__(self, message: str) -> None:
        before, _, own = message.rpartition(f'{type(self).__name__}: ')
        super().__init__(own.strip())
        if before:
            self.__cause__ = WorkerError(message)


class WorkerError(Exception):
    """The traceback of an error in a worker process, as text."""


class BadSampleList:
    """The files that a training has skipped, one JSON object per line, shared by its processes.

    Args:
        path: The path of the list. The file is created when the first file is added.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def size(self) -> int:
        """Returns the size of the list in bytes."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[dict[str, str]]:
        """Returns the entries as dicts of ``file`` and ``error``."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def add(self, file: str, error: str, limit: float) -> None:
        """Adds a file unless it is in the list.

        Args:
            file: The path of the file.
            error: What is wrong with it.
            limit: The number of files that the list may have.

        Raises:
            BadSampleError: If it has more now.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.path.with_suffix('.lock')):
            files = {entry['file'] for entry in self.read()}
            if file not in files:
                with self.path.open('a') as list_file:
                    list_file.write(json.dumps(dict(file=file, error=error)) + '\n')
        if len(files | {file}) > limit:
            raise BadSampleError(
                f'{len(files | {file})} training images cannot be used; `bad_data.max_fraction` '
                f'allows {limit:g}. {self.path} lists them. The last: {file} {error} Fix them, or '
                'allow more with `bad_data.max_fraction`.'
            )


def guarded_dataset(
    dataset: Any, policy: BadDataPolicy, skipped: BadSampleList, ignored: int = IGNORED
) -> Any:
    """Builds a data set that refuses or skips bad samples.

    Only loading is guarded: errors of other transforms are raised unchanged.

    Args:
        dataset: The config of a data set, or a built data set, which is not guarded.
        policy: What to do about a bad sample.
        skipped: The list for skipped files.
        ignored: Value of mask pixels that the loss ignores. Default: 255.

    Returns:
        The data set. It and the data sets in its wrappers are of subclasses of their classes.

    Raises:
        UserError: If there is no sample, or if the policy is to skip samples of a data set that
            does not derive from mmengine's ``BaseDataset``.
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


def _guarded(dataset: Any) -> Any:
    """Replaces the types of data sets that read files in a config by guarded ones."""
    if not isinstance(dataset, Mapping):
        return dataset
    dataset = dict(dataset)
    if 'datasets' in dataset:
        dataset['datasets'] = [_guarded(child) for child in dataset['datasets']]
    elif 'dataset' in dataset:
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
    """Makes a subclass with the same name whose samples are guarded."""
    return type(kind.__name__, (GuardedSamples, kind), dict(__doc__=kind.__doc__))


def _restore(kind: Any, state: dict[str, Any]) -> BaseDataset:
    dataset = object.__new__(_guarded_class(kind))
    dataset.__dict__.update(state)
    return dataset


def _readers(dataset: Any) -> Iterator[Any]:
    """Yields the data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = getattr(dataset, 'datasets', [dataset.dataset] if hasattr(dataset, 'dataset') else [])
    for child in inner:
        yield from _readers(child)
    if not inner:
        yield dataset


class GuardedSamples(BaseDataset):
    """A base class that makes a data set refuse or skip bad samples.

    Files and annotations are checked in the pipeline. The next good sample of the data set replaces
    a skipped one, so that the replacement does not depend on chance.
    """

    pipeline: Any
    _checks: bool = False

    def guard(self, skipped: BadSampleList | None, limit: float, ignored: int) -> None:
        """Starts to check samples.

        Args:
            skipped: The list for skipped files. None: a bad sample is an error.
            limit: The number of files that may be skipped.
            ignored: Value of mask pixels that the loss ignores.
        """
        self._checks, self._skipped = True, skipped
        self._limit, self._ignored = limit, ignored
        self._left_out = _left_out_images(self) if skipped else {}

    def prepare_data(self, idx: int) -> Any:
        """Returns the sample of an index from the pipeline, or the next good one.

        Raises:
            BadSampleError: If it is bad and must not be skipped.
        """
        if not self._checks:
            return super().prepare_data(idx)
        # Hooks such as mmdet's PipelineSwitchHook replace the pipeline during training.
        if isinstance(self.pipeline, Compose) and not isinstance(self.pipeline, GuardedPipeline):
            classes = self.metainfo.get('classes')
            self.pipeline = GuardedPipeline(self.pipeline.transforms, classes, self._ignored)
        for _ in range(len(self)):
            try:
                file = self.get_data_info(idx)['img_path'] if self._left_out else None
                if file in self._left_out:
                    raise _RefusedError(file, self._left_out[file])
                return super().prepare_data(idx)
            except _RefusedError as refused:
                if self._skipped is None:
                    raise BadSampleError(
                        f'{refused} tools/check_dataset.py finds all such files; '
                        "`bad_data = dict(policy='skip')` in the config trains without them."
                    ) from refused
                self._skipped.add(refused.file, refused.detail, self._limit)
            following = (int(idx) + 1) % len(self)
            idx = idx.moved(following) if isinstance(idx, SizedIndex) else following
        raise BadSampleError(f'None of the {len(self)} samples can be used.')

    def __reduce__(self) -> tuple:
        # Other processes cannot import a class that was made at run time, so they make it again.
        return _restore, (type(self).__mro__[2], self.__dict__)


class _RefusedError(Exception):
    """The reason why a sample is bad: a file, and the rest of a sentence about it."""

    def __init__(self, file: str, detail: str) -> None:
        super().__init__(f'{file} {detail}')
        self.file, self.detail = file, detail


def _left_out_images(dataset: Any) -> dict[str, str]:
    """Returns images with objects that mmdet silently drops, so that no pipeline can see them."""
    if 'CocoDataset' not in {kind.__name__ for kind in type(dataset).__mro__}:
        return {}
    problems = object_problems(read_coco(dataset.ann_file), dataset.data_prefix['img'])
    return {problem.file: problem.detail for problem in problems if problem.is_error}


class GuardedPipeline(Compose):
    """A pipeline that checks files when they are read, and samples when they are loaded.

    An error of a step that loads images or annotations is attributed to the sample. All other
    errors are raised unchanged.

    Args:
        transforms: The steps. Loading steps are replaced by copies that read files through
            :class:`CheckedBackend`.
        classes: Class names of the data set; None if unknown.
        ignored: Value of mask pixels that the loss ignores. Default: 255.
    """

    def __init__(self, transforms: list[Any], classes: Any, ignored: int = IGNORED) -> None:
        super().__init__([_reading_checked(s) if _is_loader(s) else s for s in transforms])
        self.ignored = ignored
        self.num_classes = None if classes is None else len(classes)
        self._loaders = [step for step in self.transforms if _is_loader(step)]

    def __call__(self, data: dict) -> dict | None:
        """Applies the steps."""
        for step in self.transforms:
            is_loader = any(step is loader for loader in self._loaders)
            result = self._load(step, data) if is_loader else step(data)
            if result is None:
                return None
            data = result
            if is_loader and step is self._loaders[-1] and 'ori_shape' in data:
                self._check(data)
        return data

    def _load(self, step: Any, data: dict) -> dict | None:
        try:
            return step(data)
        except (_RefusedError, MemoryError):
            raise
        except Exception as error:  # decoders raise anything
            message = ' '.join(str(error).split()).rstrip('.')
            path = str(data.get('img_path'))
            message = message.removesuffix(path).rstrip(': ')  # it is named already
            of_mask = getattr(step, 'with_seg', False) and not getattr(step, 'with_bbox', False)
            file = data.get('seg_map_path') if of_mask else None
            file = file or data.get('img_path') or f'sample {data.get("sample_idx")}'
            raise _RefusedError(file, f'failed with {type(error).__name__}: {message}.') from error

    def _check(self, data: dict) -> None:
        """Refuses a sample with impossible annotations."""
        for problem in sample_problems(data, self.num_classes, self.ignored):
            if problem.is_error:
                of_mask = problem.kind.startswith('mask_')
                raise _RefusedError(data['seg_map_path' if of_mask else 'img_path'], problem.detail)


def _is_loader(step: Any) -> bool:
    """Whether a step loads images or annotations: a ``Load...`` of OpenMMLab, or a subclass."""
    return any(
        kind.__name__.startswith('Load') and kind.__module__.partition('.')[0] in _LIBRARIES
        for kind in type(step).__mro__
    )


def _reading_checked(step: Any) -> Any:
    """Copies a loading step, with a ``backend_args`` that checks the files it reads.

    A copy, because the step may be built already, and a subclass may not take ``backend_args``.
    """
    backend_args = getattr(step, 'backend_args', {})
    if not hasattr(step, 'backend_args') or (backend_args or {}).get('backend') == _BACKEND:
        return step
    is_mask = isinstance(step, LoadAnnotations)
    step = copy.copy(step)
    step.backend_args = dict(
        backend=_BACKEND,
        decoding=None if is_mask else decoding_settings(step),
        backend_args=backend_args,
    )
    return step


_BACKEND = 'edgenext_mm_checked'


@register_backend(_BACKEND)
class CheckedBackend(BaseStorageBackend):
    """Reads files through another backend of mmengine, and refuses those that are empty or cut
    short. Loading steps read through it, so that each file is fetched once.

    Args:
        decoding: Decoder and colour type of the images. Default: None, the files are masks.
        backend_args: Arguments of the backend that reads. Default: None, chosen by the prefix of
            the path.
    """

    def __init__(
        self, decoding: tuple[str, str] | None = None, backend_args: dict | None = None
    ) -> None:
        self.decoding = decoding
        self.backend_args = backend_args

    def get(self, filepath: str | Path) -> bytes:
        """Returns the content of a file."""
        content = get(filepath, backend_args=self.backend_args)
        if self.decoding is None:
            problem = mask_file_problem(content)
        else:
            problem = file_problem(content, *self.decoding)
        if problem is not None:
            raise _RefusedError(str(filepath), problem.detail)
        return content

    def get_text(self, filepath: str | Path, encoding: str = 'utf-8') -> str:
        """Returns the content of a text file, unchecked."""
        return get_text(filepath, encoding, backend_args=self.backend_args)

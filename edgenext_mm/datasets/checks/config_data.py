"""Checks of a config's data that take seconds: they list folders and read annotation files.

:mod:`~edgenext_mm.datasets.checks.inspection` reads all files.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.registry import DATASETS, init_default_scope

from ...check_settings import is_checked
from ...errors import UserError
from .classes import (
    HOW_TO_NAME_CLASSES,
    configured_classes,
    heads_with_classes,
    name_problems,
    reads_class_names,
    split_problems,
)
from .coco import CocoSource, metrics, read_coco
from .dota import DotaSource
from .findings import Problem, located
from .folders import FolderSource, ListSource, class_folders
from .masks import MaskSource
from .source import Source


def check_data(config: Config, *splits: str, samples: bool = True) -> None:
    """Checks that the data of a config exist and fit it, before anything is built.

    Warnings are logged.

    Args:
        config: A full config. Its ``checks`` may switch off the checks of ``classes`` or ``data``.
        *splits: Any of ``train``, ``val`` and ``test``.
        samples: Whether to check single samples, such as missing images. Default: True.

    Raises:
        UserError: If a folder or file is missing, annotations do not fit the classes, data sets
            disagree about the classes, or the heads are for another number of classes.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    datasets = [(s, dataset) for s in splits for dataset in leaves(split_dataset(config, s))]
    for split, dataset in datasets:
        check_folders(config, split, dataset)
    _refuse(config_problems(config, *splits))
    for split, dataset in datasets:
        source = find_source(config, dataset)
        if source is None:
            continue
        _refuse(source.problems(split, samples))
        if is_checked(config, 'data'):
            if samples:
                source.check_files()
            _refuse(source.content_problems(samples))


def describe_data(config: Config, split: str) -> str:
    """Describes how much data a split has, and where. Call :func:`check_data` before.

    Args:
        config: A full config.
        split: ``train``, ``val`` or ``test``.
    """
    loader = config.get(f'{split}_dataloader')
    if not loader:
        return 'none in this config'
    dataset = DATASETS.build(loader.dataset)
    classes = dataset.metainfo.get('classes')
    places = ', '.join(dict.fromkeys(leaf.get('data_root', '') for leaf in leaves(loader.dataset)))
    return f'{len(dataset):,} images' + (
        f', {len(classes):,} classes, in {places}' if classes else f' in {places}'
    )


def split_dataset(config: Config, split: str) -> ConfigDict:
    """Returns the data set config of a split; an empty one if there is none."""
    return (config.get(f'{split}_dataloader') or {}).get('dataset') or ConfigDict()


def leaves(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """Yields the data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for child in inner:
        yield from leaves(child)
    if not inner and dataset:
        yield dataset


def find_source(config: Config, dataset: ConfigDict) -> Source | None:
    """Returns the annotations of a data set; None for other formats and for remote storage.

    Args:
        config: A full config.
        dataset: The config of a data set that is not a wrapper.

    Raises:
        UserError: If there is no annotation file, or there are no folders.
    """
    if '://' in (dataset.get('data_root') or ''):
        return None
    names = _type_names(config, dataset)
    if names & {'CocoPanopticDataset', 'LVISV05Dataset'}:  # COCO's format with other keys
        return None
    if not names & {'CustomDataset', 'CocoDataset', 'DOTADataset', 'BaseSegDataset'}:
        return None
    ann_file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if not ann_file.exists():
        raise UserError(f'The annotation file {ann_file} does not exist.')
    lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
    classes = lazy.metainfo.get('classes')
    if any(name_problems(classes)):  # an error of its own
        return Source(config, dataset, lazy)
    kind = _source_type(lazy, names)
    if kind is FolderSource and classes is None:
        classes = class_folders(lazy.img_prefix)
    heads = [number for _, number in heads_with_classes(config.get('model', {}))]
    num_classes = len(classes) if classes is not None else next(iter(heads), None)
    return kind(config, dataset, lazy, classes, num_classes)


def _source_type(lazy: Any, names: set[str]) -> type[Source]:
    if 'CocoDataset' in names:
        return CocoSource
    if 'BaseSegDataset' in names:
        return MaskSource
    if 'DOTADataset' in names:
        return DotaSource if lazy.ann_file else Source
    if lazy.with_label:
        return ListSource if lazy.ann_file else FolderSource
    return Source


def _type_names(config: Config, dataset: ConfigDict) -> set[str]:
    """Returns the names of the class of a data set and of its base classes."""
    kind = dataset.get('type')
    if not isinstance(kind, type):
        with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
            kind = datasets.get(kind)
    return {base.__name__ for base in getattr(kind, '__mro__', ())}


def check_folders(config: Config, split: str, dataset: ConfigDict) -> None:
    """Checks that the folders of a data set exist.

    Raises:
        UserError: If one does not.
    """
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    prefixes = [prefix] if isinstance(prefix, str) else [*prefix.values()] or ['']
    for folder in (Path(root, prefix) for prefix in prefixes):
        if root and '://' not in root and not folder.is_dir():
            remedy = config.get(
                'data_preparation',
                'Put the data there, or give their folder with --cfg-options '
                f'{split}_dataloader.dataset.data_root=FOLDER.',
            )
            raise UserError(
                f"The folder '{folder}' of {split}_dataloader does not exist (absolute path: "
                f'{folder.resolve()}). {remedy}'
            )


def config_problems(config: Config, *splits: str) -> Iterator[Problem]:
    """Yields impossible class names, data sets that number classes differently, and evaluators for
    other data than those of their loader.

    Args:
        config: A full config. The data sets of all splits that are on disk are compared.
        *splits: The splits whose faults to yield.
    """
    if is_checked(config, 'classes'):
        prefixes = tuple(f'{split}_' for split in splits)
        yield from (p for p in _class_list_problems(config) if p.file.startswith(prefixes))
    if is_checked(config, 'data'):
        for split in splits:
            yield from _evaluator_problems(config, split)


def _refuse(problems: Iterable[Problem]) -> None:
    """Raises the first error, and logs one warning of each kind."""
    warnings: dict[str, list[Problem]] = {}
    for problem in problems:
        if problem.is_error:
            is_label = problem.kind in ('label_range', 'mask_value')
            raise UserError(f'{problem} {HOW_TO_NAME_CLASSES}' if is_label else str(problem))
        warnings.setdefault(problem.kind, []).append(problem)
    for first, *others in warnings.values():
        more = f' (and {len(others):,} more; tools/check_dataset.py lists them)' if others else ''
        print_log(f'{first}{more}', 'current', logging.WARNING)


def _class_list_problems(config: Config) -> Iterator[Problem]:
    names: dict[str, tuple[str, list[str]]] = {}
    # Folders that are numbered must be the same in all splits, however the config names them.
    folders: dict[str, tuple[str, list[str]]] = {}
    for split in ('train', 'val', 'test'):
        for index, dataset in enumerate(leaves(split_dataset(config, split))):
            name = f'{split}_dataloader' + f' (data set {index + 1})' * bool(index)
            problems = list(name_problems(configured_classes(dataset)))
            yield from located(name, problems)
            found = None if problems else _find_classes(config, dataset)
            if found is not None:
                origin, classes, numbered = found
                names[name] = origin, classes
                if numbered and numbered != classes:
                    folders[name] = f'the folders of {name}', numbered
    if not reads_class_names(config.get('model', {})):
        yield from split_problems(names)
        yield from split_problems(folders)


def _find_classes(
    config: Config, dataset: ConfigDict
) -> tuple[str, list[str], list[str] | None] | None:
    """Returns the origin of a data set's classes, their names, and folders that it numbers; None
    if the classes are unknown."""
    try:
        lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
        classes = lazy.metainfo.get('classes')
        by_name = 'ImageFolder' in _type_names(config, dataset)
        folders = None
        if getattr(lazy, 'with_label', False) and not lazy.ann_file and not by_name:
            folders = class_folders(lazy.img_prefix, hidden=True)
    except Exception:  # data sets raise anything; building the data set reports it
        return None
    origin = 'from its `metainfo` or its type'
    if folders is not None and classes is None:
        origin, classes = f'folders of {lazy.img_prefix}', folders
    elif by_name and not configured_classes(dataset):
        origin = f'folders of {dataset.get("classes_from") or lazy.img_prefix}'
    return None if classes is None else (origin, list(classes), folders)


def _evaluator_problems(config: Config, split: str) -> Iterator[Problem]:
    """Yields metrics that read another annotation file than the data loader of their split."""
    datasets = list(leaves(split_dataset(config, split)))
    if split == 'train' or len(datasets) != 1 or not datasets[0].get('ann_file'):
        return
    dataset, name = datasets[0], f'{split}_evaluator'
    loaded = Path(dataset.get('data_root') or '', dataset.ann_file)
    remedy = f'Set {name}.ann_file={loaded}.'
    for metric in metrics(config, split):
        file = metric.get('ann_file')
        if not isinstance(file, str) or '://' in f'{file}{dataset.get("data_root")}':
            continue
        if not Path(file).is_file():
            detail = f'reads {file}, which does not exist; {split}_dataloader reads {loaded}.'
            yield Problem('evaluator', f'{detail} {remedy}', name)
        elif loaded.is_file() and not loaded.samefile(file):
            yield from located(name, _compare_files(file, loaded, remedy))
        if dataset.get('indices') is not None:
            yield Problem(
                'evaluator',
                f'counts all images of {file}, but {split}_dataloader loads some of them '
                '(`indices`), so the others would count as missed. Write a smaller annotation '
                'file.',
                name,
            )


def _compare_files(evaluated: str, loaded: Path, remedy: str) -> Iterator[Problem]:
    """Yields the first difference of an evaluator's annotation file from the data loader's."""
    reads = f'which the data loader reads. {remedy}'
    try:
        contents = [read_coco(evaluated), read_coco(loaded)]
    except UserError:  # another format
        yield Problem('evaluator', f'evaluates with {evaluated} instead of {loaded}, {reads}')
        return
    for kind, key, fields in (
        ('evaluator', 'images', ('id', 'file_name')),
        ('evaluator', 'categories', ('id', 'name')),
        ('evaluator_objects', 'annotations', ('image_id', 'category_id', 'bbox')),
    ):
        # The checks of the data set report incomplete entries.
        lists = [
            [str([entry.get(field) for field in fields]) for entry in content[key]]
            for content in contents
        ]
        here, there = map(Counter, lists)
        if here == there and not (key == 'categories' and lists[0] != lists[1]):
            continue
        differing = max((here - there).total(), (there - here).total(), 1)
        yield Problem(
            kind,
            f'evaluates with {evaluated} ({len(lists[0]):,} {key}), {differing:,} of whose {key} '
            f'differ from those of {loaded} ({len(lists[1]):,} {key}), {reads}',
        )
        return

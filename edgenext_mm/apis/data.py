"""The data of a config: checked before it is used, or looked at sample by sample."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.fileio import list_from_file
from mmengine.registry import DATASETS, init_default_scope

from ..datasets.checks import (
    check_coco,
    check_dota,
    check_image_folders,
    check_label_list,
    check_masks,
)
from ..errors import UserError
from .results import Result, to_truth


def check_data(config: Config, *splits: str, samples: bool = True) -> None:
    """Makes sure that the data of a config is there and fits, before anything is built.

    Args:
        config: A full config.
        *splits: Of ``train``, ``val`` and ``test``.
        samples: Whether faults of single samples count, such as a missing image. Default: True.

    Raises:
        UserError: If a folder or file is missing, annotations do not fit the classes, or the
            heads of the model are for another number of classes.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    for split in splits:
        for dataset in leaves((config.get(f'{split}_dataloader') or {}).get('dataset', {})):
            check_folders(config, split, dataset)
            check_content(config, dataset, samples)


def describe_data(config: Config, split: str) -> str:
    """How much data a split holds, and where, after :func:`check_data`.

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


def leaves(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets within wrappers: RepeatDataset, ConcatDataset and the like."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for child in inner:
        yield from leaves(child)
    if not inner and dataset:
        yield dataset


def check_folders(config: Config, split: str, dataset: ConfigDict) -> None:
    """Makes sure that the folders of a data set are there.

    Raises:
        UserError: If one is not.
    """
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    prefixes = [prefix] if isinstance(prefix, str) else [*prefix.values()] or ['']
    for folder in (Path(root, prefix) for prefix in prefixes):
        if root and '://' not in root and not folder.is_dir():
            raise UserError(
                f"The folder '{folder}' of {split}_dataloader does not exist (looked for it at "
                f'{folder.resolve()}). '
                + config.get(
                    'data_preparation',
                    'Put the data there, or name its place with --cfg-options '
                    f'{split}_dataloader.dataset.data_root=FOLDER.',
                )
            )


def check_content(config: Config, dataset: ConfigDict, samples: bool = True) -> None:
    """Makes sure that the annotations of a data set fit its images and the model.

    Raises:
        UserError: As :func:`check_data`.
    """
    source = find_source(config, dataset)
    if source is None:
        return
    if source.classes is not None:
        _check_heads(config.model, len(source.classes))
    lazy, classes, num_classes = source.lazy, source.classes or (), source.num_classes
    if source.format == 'list':
        lines = list_from_file(lazy.ann_file)
        check_label_list(lines, lazy.ann_file, lazy.img_prefix, num_classes, samples)
    elif source.format == 'coco':
        check_coco(lazy.ann_file, lazy.data_prefix['img'], classes, samples)
    elif source.format == 'dota':
        check_dota(lazy.ann_file, lazy.data_prefix['img_path'], lazy.img_suffix, classes, samples)
    elif source.format == 'masks' and num_classes is not None and samples:
        check_masks(lazy.load_data_list(), num_classes, lazy.reduce_zero_label)


@dataclass(frozen=True)
class Source:
    """Where a data set's annotations are.

    Args:
        lazy: The data set before it is loaded, which knows the places of its files.
        format: ``folders``, ``list`` (lines of a path and a label), ``coco``, ``dota``, ``masks``
            or ``none``.
        classes: By name, if anything names them.
        num_classes: Of the data set or else the model's heads, if they say.
    """

    lazy: Any
    format: str
    classes: Sequence[str] | None
    num_classes: int | None


def find_source(config: Config, dataset: ConfigDict) -> Source | None:
    """Where the annotations of a data set are; None for other formats, and for remote storage.

    Raises:
        UserError: If there is no annotation file, or folders and classes do not fit.
    """
    if '://' in (dataset.get('data_root') or ''):
        return None
    with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
        kinds = {kind.__name__ for kind in datasets.get(dataset.type).__mro__}
    if not kinds & {'CustomDataset', 'CocoDataset', 'DOTADataset', 'BaseSegDataset'}:
        return None
    if kinds & {'CocoPanopticDataset', 'LVISV05Dataset'}:  # COCO's format, with other keys
        return None
    ann_file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if not ann_file.exists():
        raise UserError(f'There is no annotation file {ann_file}.')
    lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
    form = _format_of(lazy, kinds)
    classes = lazy.metainfo.get('classes')
    if form == 'folders':
        classes = check_image_folders(lazy.img_prefix, classes)
    heads = [number for _, number in _heads(config.get('model', {}))]
    num_classes = len(classes) if classes is not None else next(iter(heads), None)
    return Source(lazy, form, classes, num_classes)


def _format_of(lazy: Any, kinds: Set[str]) -> str:
    if 'CustomDataset' in kinds:
        form = 'list' if lazy.ann_file else 'folders'
        return form if lazy.with_label else 'none'
    if 'CocoDataset' in kinds:
        return 'coco'
    if 'DOTADataset' in kinds:
        return 'dota' if lazy.ann_file else 'none'
    return 'masks'


def _heads(model: Any, name: str = 'model') -> Iterator[tuple[str, int]]:
    """Paths of the parts of a model that are for a number of classes, and that number."""
    for key, value in model.items() if isinstance(model, dict) else enumerate(model):
        if not isinstance(value, (dict, list)) or key == 'rpn_head':  # object or not: one class
            continue
        if isinstance(value, dict) and 'num_classes' in value:
            yield f'{name}.{key}', value['num_classes']
        yield from _heads(value, f'{name}.{key}')


def _check_heads(model: Any, num_classes: int) -> None:
    for path, number in _heads(model):
        if number != num_classes:
            raise UserError(
                f'{path} is for {number} classes, but the data has {num_classes}. '
                f'Set {path}.num_classes={num_classes}, or the classes in the `metainfo` of the '
                'data sets.'
            )


def iterate_truths(
    config: Config, split: str, seed: int = 0
) -> Iterator[tuple[str, np.ndarray, Result]]:
    """What the pipeline makes of the images of a split, in random order.

    Args:
        config: A full config.
        split: ``train``, ``val`` or ``test``.
        seed: Of the order and the random transforms. Default: 0.

    Yields:
        Path of the image (or its number), image ((H, W, C), as the pipeline leaves it) and ground
        truth.

    Raises:
        UserError: If the data is not there, or holds no annotation.
    """
    check_data(config, split)
    dataset = DATASETS.build(config[f'{split}_dataloader'].dataset)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    for index in np.random.permutation(len(dataset)):
        item = dataset[int(index)]
        sample = item['data_samples']
        image = item['inputs'].permute(1, 2, 0).numpy()
        path = str(sample.metainfo.get('img_path') or f'{index:06d}')
        yield path, np.ascontiguousarray(image), to_truth(sample, dataset.metainfo)

"""The data of a config: checked before it is used, or looked at sample by sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope

from ..datasets.checks import check_coco, check_dota, check_image_folders, check_masks
from ..errors import UserError
from .results import Result, to_truth


def check_data(config: Config, *splits: str) -> None:
    """Makes sure that the data of a config is there and fits, before anything is built.

    Args:
        config: A full config.
        *splits: Of ``train``, ``val`` and ``test``.

    Raises:
        UserError: If a folder or file is missing, annotations do not fit the classes, or the
            heads of the model are for another number of classes.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    for split in splits:
        for dataset in leaves((config.get(f'{split}_dataloader') or {}).get('dataset', {})):
            _check_folder(config, split, dataset)
            _check_content(config, dataset)


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


def _check_folder(config: Config, split: str, dataset: ConfigDict) -> None:
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


def _check_content(config: Config, dataset: ConfigDict) -> None:
    with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
        kinds = {kind.__name__ for kind in datasets.get(dataset.type).__mro__}
    if not kinds & {'CustomDataset', 'CocoDataset', 'DOTADataset', 'BaseSegDataset'}:
        return
    if '://' in (dataset.get('data_root') or ''):
        return
    ann_file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if not ann_file.exists():
        raise UserError(f'There is no annotation file {ann_file}.')
    # Not yet loaded, it knows the places of its files and its classes.
    lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
    classes = lazy.metainfo.get('classes')
    if 'CustomDataset' in kinds and lazy.with_label and not lazy.ann_file:
        classes = check_image_folders(lazy.img_prefix, classes)
    if classes is not None:
        _check_heads(config.model, 'model', len(classes))
    if 'CocoDataset' in kinds:
        check_coco(lazy.ann_file, lazy.data_prefix['img'], classes)
    elif 'DOTADataset' in kinds and lazy.ann_file:
        check_dota(lazy.ann_file, lazy.data_prefix['img_path'], lazy.img_suffix, classes)
    elif 'BaseSegDataset' in kinds:
        check_masks(lazy.load_data_list(), len(classes), lazy.reduce_zero_label)


def _check_heads(model: Any, name: str, num_classes: int) -> None:
    for key, value in model.items() if isinstance(model, dict) else enumerate(model):
        path = f'{name}.{key}'
        if not isinstance(value, (dict, list)) or key == 'rpn_head':  # object or not: one class
            continue
        if isinstance(value, dict) and value.get('num_classes', num_classes) != num_classes:
            raise UserError(
                f'{path} is for {value["num_classes"]} classes, but the data has {num_classes}. '
                f'Set {path}.num_classes={num_classes}, or the classes in the `metainfo` of the '
                'data sets.'
            )
        _check_heads(value, path, num_classes)


def iterate_truths(
    config: Config, split: str, seed: int = 0
) -> Iterator[tuple[str, np.ndarray, Result]]:
    """What the pipeline makes of the images of a split, in random order.

    Args:
        config: A full config.
        split: ``train``, ``val`` or ``test``.
        seed: Of the order and the random transforms. Default: 0.

    Yields:
        Name, image ((H, W, 3) uint8, blue-green-red) and ground truth.

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
        # Photometric transforms leave floats, some of them out of range.
        image = item['inputs'].permute(1, 2, 0).clamp(0, 255).byte().numpy()
        name = Path(sample.metainfo.get('img_path', '')).stem or f'{index:06d}'
        yield name, np.ascontiguousarray(image), to_truth(sample, dataset.metainfo)

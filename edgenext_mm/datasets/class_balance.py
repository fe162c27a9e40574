"""Balance of rare and frequent classes: repeated images, or weights of the loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.dataset import ClassBalancedDataset as MMEngineDataset
from mmengine.logging import print_log
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

from ..errors import UserError
from ..registry import DATASETS
from .palette import ignored_value

#: Limits of the weights of classes in a loss.
_WEIGHTS = (0.1, 10.0)


@DATASETS.register_module()
class ClassBalancedDataset(MMEngineDataset):
    """mmengine's ``ClassBalancedDataset`` with a threshold that follows from the data.

    An image is repeated ``sqrt(threshold / frequency)`` times, rounded up, for the rarest of its
    classes; the frequency is the share of images that have the class (Gupta et al. 2019,
    https://arxiv.org/abs/1908.03195). The log lists the factors.

    Args:
        dataset: A data set with ``get_cat_ids``, or its config.
        oversample_thr: The threshold. Default: None, the median frequency of the classes.
        lazy_init: Whether to count later. Default: False.
    """

    def __init__(
        self,
        dataset: BaseDataset | dict,
        oversample_thr: float | None = None,
        lazy_init: bool = False,
    ) -> None:
        super().__init__(dataset, oversample_thr, lazy_init)

    def _get_repeat_factors(self, dataset: BaseDataset, repeat_thr: float | None) -> list[float]:
        counts = Counter(
            label for index in range(len(dataset)) for label in set(dataset.get_cat_ids(index))
        )
        if not counts:
            raise UserError('`class_balance` needs annotated images, but none has an object.')
        frequencies = {label: count / len(dataset) for label, count in sorted(counts.items())}
        if repeat_thr is None:
            repeat_thr = float(np.median(list(frequencies.values())))
        names = dataset.metainfo.get('classes') or ()
        repeated = {
            names[label] if label < len(names) else label: math.ceil(math.sqrt(repeat_thr / share))
            for label, share in frequencies.items()
            if share < repeat_thr
        }
        listed = ', '.join(f'{name}: {factor}x' for name, factor in repeated.items())
        print_log(
            f'class_balance: images with rare classes are repeated ({listed or "none is rare"}).',
            'current',
        )
        return super()._get_repeat_factors(dataset, repeat_thr)


def balanced_dataset(config: Mapping[str, Any], dataset: ConfigDict) -> Any:
    """Returns the config of a training data set, wrapped if the config asks for balance.

    Args:
        config: A full config. ``class_balance`` is True, or a threshold from 0 to 1; see
            :class:`ClassBalancedDataset`. Segmentors balance their loss instead.
        dataset: The config of the data set.

    Raises:
        UserError: If ``class_balance`` is invalid.
    """
    chosen = config.get('class_balance')
    if not chosen or 'decode_head' in (config.get('model') or {}):
        return dataset
    is_threshold = isinstance(chosen, float) and 0 < chosen <= 1
    if chosen is not True and not is_threshold:
        raise UserError(f'`class_balance` must be True or a number from 0 to 1, got {chosen!r}.')
    threshold = None if chosen is True else chosen
    return dict(type='edgenext_mm.ClassBalancedDataset', dataset=dataset, oversample_thr=threshold)


def balance_loss(config: Config) -> None:
    """Sets the class weights of a segmentor's losses if its config has ``class_balance = True``.

    They are those of median frequency balancing (Eigen and Fergus 2015,
    https://arxiv.org/abs/1411.4734): the median of the classes' frequencies divided by the
    frequency of the class, where a frequency is the share of the class among the pixels of the
    images that have it; limited to 0.1 to 10. All training masks are read.

    Args:
        config: A full config, which is changed.

    Raises:
        UserError: If the head's loss has no class weights, or masks cannot be read.
    """
    model = config.get('model') or {}
    if not config.get('class_balance') or 'decode_head' not in model:
        return
    num_classes = _first(model['decode_head'])['num_classes']
    weights = median_frequency_weights(config, num_classes)
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name) or []
        for head in heads if isinstance(heads, Sequence) else [heads]:
            losses = head.get('loss_decode') or dict(type='CrossEntropyLoss')
            for loss in losses if isinstance(losses, Sequence) else [losses]:
                if loss['type'].rpartition('.')[2] != 'CrossEntropyLoss':
                    raise UserError(
                        f'`class_balance` sets the class weights of a CrossEntropyLoss, but '
                        f'model.{name} has a {loss["type"]}. Set `class_balance = False`.'
                    )
                # mmseg averages over labelled pixels where there are weights, and fails if told to.
                loss.update(class_weight=weights, avg_non_ignore=False)
            head['loss_decode'] = losses
    print_log(f'class_balance: class weights of the loss are {weights}.', 'current')


def _first(heads: Any) -> Any:
    return heads[0] if isinstance(heads, Sequence) else heads


def median_frequency_weights(config: Config, num_classes: int) -> list[float]:
    """Returns the weights of :func:`balance_loss` from the training masks of a config."""
    ignored = ignored_value(config)
    pixels: np.ndarray = np.zeros(num_classes)
    present: np.ndarray = np.zeros(num_classes)
    init_default_scope(config.get('default_scope', 'mmengine'))
    dataset = MMENGINE_DATASETS.build(config.train_dataloader.dataset)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        try:
            with Image.open(info['seg_map_path']) as image:
                mask = np.asarray(image).astype(int)
        except OSError as error:
            raise UserError(f'The mask {info["seg_map_path"]} cannot be read: {error}.') from error
        if info.get('reduce_zero_label'):
            mask = np.where(mask == 0, ignored, mask - 1)
        counts = np.bincount(mask[(mask != ignored) & (mask < num_classes)], minlength=num_classes)
        pixels += counts
        present += (counts > 0) * counts.sum()
    frequency = pixels[present > 0] / present[present > 0]
    weights: np.ndarray = np.ones(num_classes)
    weights[present > 0] = (np.median(frequency) / frequency).clip(*_WEIGHTS)
    return weights.round(3).tolist()

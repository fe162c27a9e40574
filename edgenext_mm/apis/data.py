"""The data set of a config, sample by sample."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from .results import Result, to_truth
from .runner import check_data


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
    init_default_scope(config.get('default_scope', 'mmengine'))
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

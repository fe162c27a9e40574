"""The ground truth of a data set after its pipeline."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS

from ..datasets.checks.config_data import check_data
from ..runtime.results import Result
from .results import to_truth


def iterate_truths(
    config: Config, split: str, seed: int = 0
) -> Iterator[tuple[str, np.ndarray, Result]]:
    """Yields the images of a split and their annotations after the pipeline, in random order.

    Args:
        config: A complete config.
        split: ``train``, ``val`` or ``test``.
        seed: Seed of the order and of random transforms. Default: 0.

    Yields:
        Path of the image (or its index), image ((H, W, C), as the pipeline returns it) and ground
        truth.

    Raises:
        UserError: If the data is missing or has no annotations.
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

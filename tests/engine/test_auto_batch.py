"""The search for the largest batch size."""

import pytest
import torch

from edgenext_mm.engine.auto_batch import find_batch_size, largest_that_fits
from edgenext_mm.errors import UserError


@pytest.mark.parametrize('capacity', [1, 2, 3, 7, 16, 100, 1000, 5000])
def test_the_search_comes_within_a_sixteenth(capacity):
    tried = []

    def fits(size):
        tried.append(size)
        try:
            if size > capacity:
                raise torch.OutOfMemoryError('CUDA out of memory')
        except torch.OutOfMemoryError:
            return False
        return True

    found = largest_that_fits(fits)
    assert found <= capacity
    assert found >= min(capacity, 4096) * 15 / 16 - 1
    assert len(tried) < 20


def test_nothing_fits():
    assert largest_that_fits(lambda size: False) == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason='for machines without a GPU')
def test_without_a_gpu_there_is_an_error(digits_training):
    with pytest.raises(UserError, match='memory of a GPU, and this machine has none'):
        find_batch_size(digits_training(2, 1))

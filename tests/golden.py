"""What the authors' published code computed, and the weights and inputs it computed that from.

Neither weights nor inputs are stored: both follow from names and shapes.
"""

import json
import zlib
from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / 'data' / 'golden'

#: Our name of each variant that has golden outputs, by the authors' name.
VARIANTS = {'edgenext_xx_small': 'xxsmall', 'edgenext_xx_small_bn_hs': 'xxsmall_bnhs'}


def draw(name: str, shape: tuple[int, ...]) -> Tensor:
    """The weights of a name and shape: scales in [0.5, 1.5), all else normal."""
    if name.endswith('num_batches_tracked'):
        return torch.zeros(shape, dtype=torch.long)
    seed = zlib.crc32(name.encode())
    is_norm_weight = name.endswith('weight') and len(shape) == 1
    if is_norm_weight or name.endswith(('running_var', 'temperature')) or 'gamma' in name:
        return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) + 0.5
    fan_in = prod(shape[1:]) if len(shape) > 1 else 100
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed ^ 1)) / fan_in**0.5


def draw_like(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drawn weights for a state dict's names and shapes, also where there are no golden outputs."""
    return {name: draw(name, tuple(value.shape)) for name, value in state_dict.items()}


def official_state_dict(variant: str) -> dict[str, Tensor]:
    """The weights behind the golden outputs, under the authors' names."""
    shapes = json.loads((FOLDER / f'{variant}.json').read_text())
    return {name: draw(name, tuple(shape)) for name, shape in shapes.items()}


def make_input(batch: int, height: int, width: int) -> Tensor:
    """The images behind the golden outputs."""
    seed = batch * 1_000_003 + height * 1009 + width
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, height, width, generator=generator)


def golden_outputs(variant: str) -> dict[tuple[int, ...], dict[str, Tensor]]:
    """By input (batch, height, width): logits, and mean, corner and shape of each stage's map."""
    outputs: dict[tuple[int, ...], dict[str, Tensor]] = {}
    with np.load(FOLDER / f'{variant}.npz') as stored:
        for key, value in stored.items():
            size, name = key.split('/')
            size = tuple(map(int, size.split('x')))
            outputs.setdefault(size, {})[name] = torch.from_numpy(value)
    return outputs

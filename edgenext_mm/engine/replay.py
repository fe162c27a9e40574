"""A step of training again, of which the loss watch has kept what it started from."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..errors import UserError
from ..models.building import build_model
from ..registry import type_name
from .faults import set_random_state


def replay(
    path: str | Path, device: str | torch.device = 'cpu'
) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    """Runs the step in a file of the :class:`~edgenext_mm.engine.hooks.LossWatchHook`.

    It ends with the gradients.

    The file is unpickled, which can run any program: open only such as you made yourself.

    Args:
        path: Of a ``non_finite_iter_N.pth``.
        device: Default: the CPU, whose sums differ from a GPU's in their last digits.

    Returns:
        The model as it was before the step, with the gradients of its parameters, and the losses
        of each batch.

    Raises:
        UserError: If the file is not there, or is something else.
    """
    if not Path(path).is_file():
        raise UserError(f'There is no file {path}.')
    content = torch.load(path, map_location='cpu', weights_only=False)
    if not isinstance(content, dict) or 'random_state' not in content:
        raise UserError(f'{path} was not written by the loss watch.')
    config = Config.fromstring(content['config'], '.py')
    model = build_model(config).to(device).train()
    model.load_state_dict(content['state_dict'])
    amp = type_name(config.optim_wrapper.get('type')) == 'AmpOptimWrapper'
    set_random_state(content['random_state'])
    losses = []
    for batch in content['batches']:
        with torch.autocast(torch.device(device).type, enabled=amp):
            data = model.data_preprocessor(batch, True)
            parts = model(**data, mode='loss')
        total, values = model.parse_losses(parts)
        total.backward()
        losses.append({name: value.detach() for name, value in values.items()})
    return model, losses

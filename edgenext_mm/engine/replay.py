"""Repeats a training step that the loss watch has saved."""

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
    """Repeats the forward and backward passes of a step without changing the weights.

    The file is a pickle, which can run any program when it is loaded: open only your own files.

    Args:
        path: The path of a ``non_finite_iter_N.pth``.
        device: The device to run on. Other devices than the one of the training may differ in the
            last digits. Default: ``cpu``.

    Returns:
        The model as it was before the step, with the gradients of the step, and the losses of
        each batch.

    Raises:
        UserError: If the file does not exist or was not written by the loss watch.
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

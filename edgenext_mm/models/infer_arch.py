"""Infers the architecture from a state dict, by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from ..errors import UserError
from .arch import ARCHS, NUM_STAGES, Stage

StateDict = Mapping[str, Tensor]


def read_stages(state_dict: StateDict, prefix: str = '') -> tuple[Stage, ...]:
    """Infers the stages of a backbone from its weights.

    Args:
        state_dict: Weights with the authors' names after ``prefix``.
        prefix: Prefix of the backbone's names. Default: none.

    Returns:
        The stages before the first incomplete one. Empty if this is not an EdgeNeXt.
    """
    weights = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    stages: list[Stage] = []
    for i in range(NUM_STAGES):
        depth = len({k.split('.')[2] for k in weights if k.startswith(f'stages.{i}.')})
        encoders = [_read_encoder(weights, f'stages.{i}.{j}.') for j in range(depth)]
        complete = tuple(encoder for encoder in encoders if encoder is not None)
        if not complete or len(complete) < depth:
            break
        dim = weights[f'stages.{i}.0.pwconv2.bias'].shape[0]
        norm = 'BN' if f'stages.{i}.0.norm.running_mean' in weights else 'LN'
        bias = any(
            re.fullmatch(rf'stages\.{i}\.\d+\.(dwconv|convs\.\d+)\.bias', k) for k in weights
        )
        stages.append(Stage(dim, norm, complete, _read_reduction(weights, i), bias))
    return tuple(stages)


def _read_reduction(weights: StateDict, stage: int) -> str:
    if stage == 0:
        conv = weights.get('downsample_layers.0.0.weight')
        return 'overlap' if conv is not None and conv.shape[-1] == 9 else 'patch'
    return 'layer' if f'downsample_layers.{stage}.1.weight' in weights else 'encoder'


def _read_encoder(weights: StateDict, prefix: str) -> tuple | None:
    if f'{prefix}pwconv2.bias' not in weights:
        return None
    if (temperature := weights.get(f'{prefix}xca.temperature')) is not None:
        scales = sum(f'{prefix}convs.' in k and k.endswith('.weight') for k in weights) + 1
        pos_encoding = f'{prefix}pos_embd.token_projection.weight' in weights
        return ('sdta', temperature.shape[0], scales, pos_encoding)
    if (dwconv := weights.get(f'{prefix}dwconv.weight')) is not None:
        return ('conv', dwconv.shape[-1])
    return None


def check_arch(state_dict: StateDict, prefix: str, model: nn.Module) -> None:
    """Checks that weights have the architecture of a backbone.

    Args:
        state_dict: Weights of a backbone, or of a model that contains one.
        prefix: Prefix of the backbone's names in ``state_dict``.
        model: The backbone.

    Raises:
        UserError: If the architectures differ in a stage that both have.
    """
    theirs, ours = read_stages(state_dict, prefix), model.arch.stages
    if all(a == b for a, b in zip(theirs, ours, strict=False)):
        return
    differing = [
        f'{name} {format_shape(state_dict[prefix + name])} there, {format_shape(value)} here'
        for name, value in model.state_dict().items()
        if prefix + name in state_dict and state_dict[prefix + name].shape != value.shape
    ]
    raise UserError(
        f'The checkpoint holds EdgeNeXt {_describe(theirs)}, but the model is {model.arch}. '
        f'First shapes that differ: {"; ".join(differing[:3]) or "none, only the encoders"}. '
        "Set the backbone's `arch` to that of the checkpoint, or choose a checkpoint of this arch."
    )


def _describe(stages: tuple[Stage, ...]) -> str:
    names = [name for name, arch in ARCHS.items() if arch.stages[: len(stages)] == stages]
    depths, dims = tuple(len(s.encoders) for s in stages), tuple(s.dim for s in stages)
    name = repr(names[0]) if names else 'of another arch'
    return f'{name} (depths {depths}, dims {dims}, {stages[0].norm})'


def format_shape(tensor: Tensor) -> str:
    """Formats the shape of a tensor for a message, such as ``3x3``."""
    return 'x'.join(map(str, tensor.shape)) or 'scalar'

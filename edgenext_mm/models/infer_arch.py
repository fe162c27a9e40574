"""The arch that weights are of, read from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from ..errors import UserError
from .arch import ARCHS, NUM_STAGES, Stage

if TYPE_CHECKING:
    from .edgenext import EdgeNeXt

StateDict = Mapping[str, Tensor]


def read_stages(state_dict: StateDict, prefix: str = '') -> tuple[Stage, ...]:
    """The stages that the weights of a backbone hold, under the authors' names after ``prefix``.

    Returns:
        As many stages as are complete; none where the names are not an EdgeNeXt's.
    """
    weights = {k[len(prefix) :]: v for k, v in state_dict.items() if k.startswith(prefix)}
    stages: list[Stage] = []
    for i in range(NUM_STAGES):
        names = [k for k in weights if k.startswith(f'stages.{i}.')]
        depth = len({k.split('.')[2] for k in names})
        encoders = tuple(_read_encoder(weights, f'stages.{i}.{j}.') for j in range(depth))
        if not encoders or None in encoders:
            break
        dim = weights[f'stages.{i}.0.pwconv2.bias'].shape[0]
        norm = 'BN' if f'stages.{i}.0.norm.running_mean' in weights else 'LN'
        stages.append(Stage(dim, norm, encoders))  # type: ignore[arg-type]
    return tuple(stages)


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


def check_arch(state_dict: StateDict, prefix: str, model: EdgeNeXt) -> None:
    """Refuses weights of another architecture than the model's.

    Args:
        state_dict: Weights of a model that holds a backbone.
        prefix: What precedes the backbone's names there.
        model: The backbone about to take the weights.

    Raises:
        UserError: If the stages that both have differ; names both and the first shapes.
    """
    theirs, ours = read_stages(state_dict, prefix), model.arch.stages
    if all(a == b for a, b in zip(theirs, ours, strict=False)):
        return
    own = model.state_dict()
    differing = [
        f'{name} {shape_of(state_dict[prefix + name])} there, {shape_of(own[name])} here'
        for name in own
        if prefix + name in state_dict and state_dict[prefix + name].shape != own[name].shape
    ]
    raise UserError(
        f'The checkpoint holds EdgeNeXt {_describe(theirs)}, but the model is {model.arch}. '
        f'First shapes that differ: {"; ".join(differing[:3]) or "none, but the encoders do"}. '
        'Give the backbone the `arch` of the checkpoint, or take a checkpoint of this arch.'
    )


def _describe(stages: tuple[Stage, ...]) -> str:
    names = [name for name, arch in ARCHS.items() if arch.stages[: len(stages)] == stages]
    depths, dims = [len(s.encoders) for s in stages], [s.dim for s in stages]
    size = f'(depths {tuple(depths)}, dims {tuple(dims)}, {stages[0].norm})'
    return f'{names[0]!r} {size}' if names else f'of another arch {size}'


def shape_of(tensor: Tensor) -> str:
    """As messages tell it, such as ``3x3``."""
    return 'x'.join(map(str, tensor.shape)) or 'scalar'

"""Checkpoints: the key names of each published format, and which architecture a file holds.

The backbone's parameters are named as in the authors' files. Their classifier is ours with
``backbone.`` before all but the head, which is ``head.fc``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import UserError
from .backbones.arch import ARCHS, NUM_STAGES, Stage

if TYPE_CHECKING:
    from .backbones.edgenext import EdgeNeXt

StateDict = Mapping[str, Tensor]

#: Where the authors' and other training codes keep the weights in a file, best first: they report
#: the accuracy of the moving average where there is one.
WRAPPERS = ('model_ema', 'model', 'state_dict')


def unwrap(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Tensor]:
    """The state dict in a loaded file.

    Args:
        checkpoint: A bare state dict, or a dict that holds one under one of :data:`WRAPPERS`.
        key: The entry to take, of any name. Default: the first of :data:`WRAPPERS` that is there.

    Raises:
        UserError: If there is no such entry, or what is there is no state dict.
    """
    found = [k for k in WRAPPERS if isinstance(checkpoint.get(k), Mapping)]
    if key is not None:
        if not isinstance(checkpoint.get(key), Mapping):
            raise UserError(
                f'The checkpoint has no entry {key!r}. It holds: {_shorten(checkpoint)}.'
            )
        checkpoint = checkpoint[key]
    elif found:
        checkpoint = checkpoint[found[0]]
    if not checkpoint or not all(isinstance(v, Tensor) for v in checkpoint.values()):
        raise UserError(
            'The checkpoint holds no state dict: expected tensors by name, bare or under one of '
            f'{", ".join(WRAPPERS)}; got {_shorten(checkpoint)}.'
        )
    return {name.removeprefix('module.'): value for name, value in checkpoint.items()}


def official_to_ours(state_dict: StateDict) -> dict[str, Tensor]:
    """From the authors' names (``stages.0.0.gamma``, ``head.weight``) to our classifier's."""
    return {_to_ours(name): value for name, value in state_dict.items()}


def ours_to_official(state_dict: StateDict) -> dict[str, Tensor]:
    """From our classifier's names to the authors'; the inverse of :func:`official_to_ours`."""
    return {
        re.sub(r'^head\.fc\.', 'head.', name.removeprefix('backbone.')): value
        for name, value in state_dict.items()
    }


def _to_ours(name: str) -> str:
    if name.startswith('head.'):
        return name.replace('head.', 'head.fc.', 1)
    return f'backbone.{name}'


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
        f'{name} {_shape(state_dict[prefix + name])} there, {_shape(own[name])} here'
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


def _shape(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'scalar'


def _shorten(checkpoint: Mapping[str, Any]) -> str:
    names = [str(k) for k in checkpoint]
    return ', '.join(names[:5]) + (f' and {len(names) - 5} more' if len(names) > 5 else '')


def convert_official(checkpoint: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
    """Makes a checkpoint of our classifier from a loaded file of the authors'.

    Args:
        checkpoint: The content of the file.
        key: Where in it the weights are; see :func:`unwrap`.

    Returns:
        A checkpoint with ``state_dict``, and the name of the arch in ``meta``.

    Raises:
        UserError: If it does not hold all weights, and no others, of one of the seven variants.
    """
    weights = unwrap(checkpoint, key)
    stages = read_stages(weights)
    name = next((name for name, arch in ARCHS.items() if arch.stages == stages), None)
    if name is None:
        raise UserError(
            f'These are not the weights of an EdgeNeXt of the paper ({", ".join(ARCHS)}) under '
            f"the authors' names. First names: {_shorten(weights)}."
        )
    converted = official_to_ours(weights)
    expected = {*_classifier_names(name)}
    missing, unexpected = sorted(expected - converted.keys()), sorted(converted.keys() - expected)
    if missing or unexpected:
        raise UserError(
            f'The weights of this {name} are not complete: missing {missing[:3]}, '
            f'unexpected {unexpected[:3]}.'
        )
    return dict(meta=dict(arch=name), state_dict=converted)


def _classifier_names(arch: str) -> list[str]:
    from .backbones.edgenext import EdgeNeXt

    backbone = EdgeNeXt(arch, final_norm='auto')
    names = [f'backbone.{name}' for name in backbone.state_dict()]
    return [*names, 'head.fc.weight', 'head.fc.bias']

"""From the content of a checkpoint to a model: which weights are taken, and which are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoints.contents import unwrap_named, without_prefix
from ..checkpoints.finding import read_checkpoint
from ..checkpoints.key_maps import to_ours
from ..errors import UserError
from .arch import Arch
from .infer_arch import check_arch, shape_of

if TYPE_CHECKING:
    from .edgenext import EdgeNeXt


def weights_of(content: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """The weights in a checkpoint's content, under the names of the model that is to take them.

    Args:
        content: Of :func:`~edgenext_mm.checkpoints.finding.read_checkpoint`.
        model: If it holds an EdgeNeXt of ours, weights in any published format are renamed.

    Raises:
        UserError: If there are none.
    """
    entry, weights = unwrap_named(content)
    taken = [f'the entry {entry}'] if entry not in ('', 'state_dict') else []
    own = model.state_dict()
    if any(_backbones(model)):
        if not weights.keys() & own.keys():
            prefix, weights = without_prefix(weights)
            taken += [f'the weights under {prefix}'] if prefix else []
        weights = to_ours(weights)
    if taken:
        print_log(f'Of the checkpoint, {", ".join(taken)} is taken.', 'current')
    return weights


class Fit(NamedTuple):
    """Which weights a model takes.

    Args:
        taken: By name.
        report: What was loaded, what was left out and why, what is missing; a line each.
    """

    taken: dict[str, Tensor]
    report: str


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> Fit:
    """Chooses the weights that a model can take.

    Args:
        model: Not changed.
        weights: Under the model's names.
        source: Where they come from, for the report.

    Raises:
        UserError: If the model has none of the names, or the weights are of another arch.
    """
    _check_archs(model, weights)
    own = model.state_dict()
    unused = [k for k in weights if k not in own]
    if len(unused) == len(weights):
        raise UserError(
            f'{source} holds none of the weights of this model: it has {_first(unused)}, '
            f'the model {_first(list(own))}.'
        )
    shapes = [k for k in own if k in weights and weights[k].shape != own[k].shape]
    taken = {k: weights[k] for k in own if k in weights and k not in shapes}
    missing = [k for k in own if k not in weights]
    left_out = [
        f'{k} ({shape_of(weights[k])} in the file, {shape_of(own[k])} here)' for k in shapes
    ] + [f'{_first(unused)} (no such part here)'] * bool(unused)
    return Fit(
        taken,
        f'{source}: loaded {len(taken)} of {len(own)} tensors.\n'
        f'Left out: {", ".join(left_out) or "nothing"}.\n'
        f'Starting anew: {_first([*shapes, *missing])}.',
    )


def load_backbone(model: EdgeNeXt, checkpoint: str | Path, prefix: str = 'backbone.') -> None:
    """Loads a backbone from a checkpoint of any format, of a backbone alone or a whole model.

    Args:
        model: The backbone.
        checkpoint: See :func:`~edgenext_mm.checkpoints.finding.find_checkpoint`.
        prefix: What precedes the backbone's names in a whole model. Default: ``backbone.``.

    Raises:
        UserError: If the checkpoint cannot be read, or is of another arch.
    """
    weights = weights_of(read_checkpoint(checkpoint), model)
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if not own:
        raise UserError(f'{checkpoint} holds nothing named {prefix}*; it has {_first([*weights])}.')
    fit = fit_weights(model, own, str(checkpoint))
    model.load_state_dict(fit.taken, strict=False)
    print_log(fit.report, logger='current')


def check_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Makes sure that weights are all those of a model, before they are loaded.

    Raises:
        UserError: If names or shapes differ, or weights are NaN; names the first ones, and says
            what to do.
    """
    _check_archs(model, state_dict)
    own = model.state_dict()
    missing = sorted(own.keys() - state_dict.keys())
    unexpected = sorted(state_dict.keys() - own.keys())
    shapes = [
        f'{k} ({shape_of(state_dict[k])} there, {shape_of(own[k])} here)'
        for k in own
        if k in state_dict and state_dict[k].shape != own[k].shape
    ]
    if missing or unexpected or shapes:
        raise UserError(
            f'The weights in {source} are not those of this model. '
            f'Missing: {_first(missing)}. Unexpected: {_first(unexpected)}. '
            f'Of other shape: {_first(shapes)}. Give the config that the checkpoint was trained '
            'with.'
        )
    learned = dict(model.named_parameters())
    if spoilt := [
        name
        for name, value in state_dict.items()
        if value.isnan().any() or (name in learned and value.isinf().any())
    ]:
        raise UserError(
            f'Weights in {source} are NaN or infinite: {_first(spoilt)}. The training that '
            'wrote it has diverged; take an earlier checkpoint.'
        )


def _check_archs(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    for name, backbone in _backbones(model):
        check_arch(weights, f'{name}.' if name else '', backbone)


def _backbones(model: nn.Module) -> Iterator[tuple[str, EdgeNeXt]]:
    """The EdgeNeXts within a model, by name."""
    for name, module in model.named_modules():
        if isinstance(getattr(module, 'arch', None), Arch):
            yield name, cast('EdgeNeXt', module)


def _first(names: list[str], count: int = 3) -> str:
    rest = f' and {len(names) - count} more' if len(names) > count else ''
    return ', '.join(names[:count]) + rest if names else 'none'

"""Loads the content of a checkpoint into a model: chooses, renames and checks the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoints.contents import shorten, unwrap, without_prefix
from ..checkpoints.cvnets import from_cvnets, is_cvnets
from ..checkpoints.finding import read_checkpoint
from ..checkpoints.key_maps import to_ours
from ..errors import UserError
from .arch import Arch
from .infer_arch import check_arch, format_shape


def weights_of(content: Mapping[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """Returns the weights in the content of a checkpoint, with the names of the model.

    Args:
        content: Content of a checkpoint, see
            :func:`~edgenext_mm.checkpoints.finding.read_checkpoint`.
        model: The model. If it contains an EdgeNeXt, weights of all known formats are renamed.

    Raises:
        UserError: If there are no weights, or several sets of weights and none is preferred.
    """
    entry, weights = unwrap(content)
    chosen = [f'the entry {entry}'] if entry not in ('', 'state_dict') else []
    if any(_backbones(model)) and is_cvnets(weights):
        weights = from_cvnets(weights)
    elif any(_backbones(model)):
        if not weights.keys() & model.state_dict().keys():
            prefix, weights = without_prefix(weights)
            chosen += [f'the weights under {prefix}'] if prefix else []
        weights = to_ours(weights)
    if chosen:
        print_log(f'Loading {", ".join(chosen)} of the checkpoint.', 'current')
    return weights


class Fit(NamedTuple):
    """The weights that a model can load.

    Args:
        taken: Weights by name.
        report: Log message: what is loaded, what is left out and why, and what is missing.
    """

    taken: dict[str, Tensor]
    report: str


def fit_weights(model: nn.Module, weights: Mapping[str, Tensor], source: str) -> Fit:
    """Selects the weights that a model can load: those with the same names and shapes.

    Args:
        model: The model. It is not changed.
        weights: Weights with the names of the model.
        source: Where the weights come from, for messages.

    Raises:
        UserError: If no name fits, the weights are for another EdgeNeXt architecture, or weights
            are NaN or infinite.
    """
    weights, adapted = _adapt_input(model, weights)
    missing, unexpected, mismatched = _compare(model, weights)
    own = model.state_dict()
    if len(unexpected) == len(weights):
        raise UserError(
            f'{source} holds none of the weights of this model: it has {shorten(unexpected, 3)}, '
            f'the model has {shorten(own, 3)}.'
        )
    taken = {k: weights[k] for k in own if k in weights and k not in mismatched}
    _check_finite(model, taken, source)
    left_out = list(mismatched.values())
    if unexpected:
        left_out.append(f'{shorten(unexpected, 3)} (not in the model)')
    return Fit(
        taken,
        f'{source}: loaded {len(taken)} of {len(own)} tensors.{adapted}\n'
        f'Left out: {", ".join(left_out) or "nothing"}.\n'
        f'Initialised anew: {shorten([*mismatched, *missing], 3)}.',
    )


def _adapt_input(
    model: nn.Module, weights: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], str]:
    """Adapts RGB weights of the first convolution to another number of input channels.

    One channel gets the sum over the colours, as for a grey image; more channels get the colours in
    turn, scaled so that the sum over all channels stays the same. timm does the same.

    Returns:
        The weights, and a sentence for the log.
    """
    adapted = ''
    for name, _ in _backbones(model):
        key = '.'.join(filter(None, [name, 'downsample_layers.0.0.weight']))
        own, given = model.state_dict().get(key), weights.get(key)
        if own is None or given is None or given.dim() != 4 or own.shape[1] == given.shape[1]:
            continue
        if given.shape[1] != 3:
            continue  # reported as another shape
        channels = own.shape[1]
        if channels == 1:
            changed = given.sum(1, keepdim=True)
        else:
            turns = -(-channels // 3)
            changed = given.repeat(1, turns, 1, 1)[:, :channels] * (3 / channels)
        weights = {**weights, key: changed}
        adapted = f' The first convolution was adapted from 3 input channels to {channels}.'
    return weights, adapted


def load_backbone(model: nn.Module, checkpoint: str | Path, prefix: str = 'backbone.') -> None:
    """Loads a backbone from a checkpoint in any known format.

    Args:
        model: The backbone.
        checkpoint: Path, URL or zoo name of a backbone or of a model that contains one; see
            :func:`~edgenext_mm.checkpoints.finding.find_checkpoint`.
        prefix: Prefix of the backbone's names in a model. Default: ``'backbone.'``.

    Raises:
        UserError: If the checkpoint cannot be read, or has another architecture.
    """
    weights = weights_of(read_checkpoint(checkpoint), model)
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    if not own:
        raise UserError(f'{checkpoint} has no weights {prefix}*; it has {shorten(weights, 3)}.')
    fit = fit_weights(model, own, str(checkpoint))
    model.load_state_dict(fit.taken, strict=False)
    print_log(fit.report, logger='current')


def check_weights(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    """Checks that a state dict has exactly the weights of a model, and that they are finite.

    Args:
        model: The model.
        state_dict: The weights.
        source: Where the weights come from, for messages.

    Raises:
        UserError: If names, shapes or architectures differ, or weights are NaN or infinite.
    """
    missing, unexpected, mismatched = _compare(model, state_dict)
    if missing or unexpected or mismatched:
        raise UserError(
            f'The weights in {source} are not those of this model. Missing: {shorten(missing, 3)}. '
            f'Unexpected: {shorten(unexpected, 3)}. '
            f'Of other shape: {shorten(mismatched.values(), 3)}. '
            'Use the config with which the checkpoint was trained.'
        )
    _check_finite(model, state_dict, source)


def _check_finite(model: nn.Module, state_dict: Mapping[str, Tensor], source: str) -> None:
    # Running statistics may be infinite, parameters may not.
    parameters = dict(model.named_parameters())
    invalid = [
        name
        for name, value in state_dict.items()
        if value.isnan().any() or (name in parameters and value.isinf().any())
    ]
    if invalid:
        raise UserError(
            f'Weights in {source} are NaN or infinite: {shorten(invalid, 3)}. The training that '
            'wrote them diverged; use an earlier checkpoint.'
        )


def _compare(
    model: nn.Module, weights: Mapping[str, Tensor]
) -> tuple[list[str], list[str], dict[str, str]]:
    """Returns missing names, unexpected names, and by name a description of differing shapes.

    Raises:
        UserError: If the weights are for another EdgeNeXt architecture.
    """
    for name, backbone in _backbones(model):
        check_arch(weights, f'{name}.' if name else '', backbone)
    own = model.state_dict()
    mismatched = {
        k: f'{k} ({format_shape(weights[k])} in the file, {format_shape(value)} here)'
        for k, value in own.items()
        if k in weights and weights[k].shape != value.shape
    }
    missing = [k for k in own if k not in weights]
    unexpected = [k for k in weights if k not in own]
    return missing, unexpected, mismatched


def _backbones(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the EdgeNeXts in a model, also in deploy form, with their names."""
    for name, module in model.named_modules():
        if isinstance(getattr(module, 'arch', None), Arch):
            yield name, module

"""Errors of torch and OpenMMLab that come from a config: what to change in it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from mmengine.runner import Runner
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import UserError
from .unwrapped import unwrapped

#: What DistributedDataParallel says one step after a parameter got no gradient.
_UNUSED = 'Expected to have finished reduction in the prior iteration'
#: What BatchNorm says of one image with a map of one pixel.
_ONE_VALUE = 'Expected more than 1 value per channel'
#: What torch and mmseg say of images of several sizes, and where.
_SEVERAL_SIZES = re.compile(
    r'stack expects each tensor to be equal size|image size in a batch should be the same'
    r'|only one of size and size_divisor should be valid'
)
_BATCHING = re.compile(r'in (stack_batch|\w*collate\w*)\b|\w*data_preprocessor\.py')
#: How many parameters a message names.
_MAX_NAMES = 6


@contextmanager
def explained_errors(runner: Runner) -> Iterator[None]:
    """Adds to errors that come from the config what to change in it.

    Args:
        runner: The runner that works in the block.

    Raises:
        UserError: From the error itself. All other errors are raised unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        advice = _advice(error, runner)
        if advice is None:
            raise
        name, message = type(error).__name__, str(error).strip().splitlines()[-1]
        raise UserError(f'{advice} ({name}: {message.removeprefix(f"{name}: ")})') from error


def _advice(error: Exception, runner: Runner) -> str | None:
    text, model = str(error), unwrapped(runner.model)
    if _UNUSED in text:
        return _unused_parameters(model, text)
    if _ONE_VALUE in text:
        return one_value_advice(_failed_norm(model, error))
    # The traceback of a data loading process is part of the message.
    place = _BATCHING.search(_traceback(error)) if _SEVERAL_SIZES.search(text) else None
    if place:
        split = 'train' if model.training else 'val'
        return several_sizes_advice(model, split, collated='default_collate' in place[0])
    return None


def _traceback(error: Exception) -> str:
    return ''.join(traceback.format_exception(error))


def _unused_parameters(model: nn.Module, text: str) -> str:
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    found = re.search(r'did not receive grad for rank \d+: ([\d ]+)', text)
    names = [trained[int(i)] for i in found[1].split()] if found else []
    more = f' and {len(names) - _MAX_NAMES} more' if len(names) > _MAX_NAMES else ''
    norms = [name for name in names if re.match(r'backbone\.norm\d', name)]
    unused_map = (
        f'The maps of stage {", ".join(sorted({re.findall(r"[0-9]+", n)[0] for n in norms}))} of '
        'the backbone are returned and not used: leave them out of model.backbone.out_indices '
        '(and of the in_channels and start_level of the neck). Or '
        if norms
        else 'Leave these parts out of the model, or freeze them. Or '
    )
    return (
        f'The loss does not depend on these parameters: {", ".join(names[:_MAX_NAMES])}{more}. '
        'With several processes, each trained parameter needs a gradient. '
        f'{unused_map}set `find_unused_parameters = True` at the top level of the config, which '
        'takes some time at each step.'
    )


def _failed_norm(model: nn.Module, error: Exception) -> str:
    """The name of the layer that raised an error, if it is a part of the model."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)]
    norms = [module for module in frames if isinstance(module, _BatchNorm)]
    return names.get(id(norms[-1]), '') if norms else ''


def one_value_advice(layer: str) -> str:
    """What to do where BatchNorm meets one image with a map of one pixel.

    Args:
        layer: The name of a BatchNorm layer; '' if it is not known.
    """
    name = f' `{layer}`' if layer else ''
    return (
        f'The BatchNorm layer{name} cannot train on a batch of one image, of which its map has one '
        'pixel: one value has no variance. Set train_dataloader.drop_last=True if only the last '
        'batch has one image; else set a larger train_dataloader.batch_size, or another norm (in '
        "necks and heads, norm_cfg=dict(type='GN', num_groups=8))."
    )


def several_sizes_advice(
    model: nn.Module,
    split: str,
    sizes: Collection[tuple[int, int]] = (),
    collated: bool = False,
) -> str:
    """What to do where the images of a batch cannot be stacked.

    Args:
        model: Its ``data_preprocessor`` stacks them.
        split: ``train`` or ``val``, the loader that they come from.
        sizes: Heights and widths, if they are known. Default: none.
        collated: Whether the loader already stacks them, by ``default_collate``. Default: False.
    """
    preprocessor = model.data_preprocessor
    listed = ', '.join(f'{height}x{width}' for height, width in sorted(sizes)[:_MAX_NAMES])
    pads = split == 'train' and hasattr(preprocessor, 'size_divisor')
    if collated:
        collate = "collate_fn=dict(type='pseudo_collate')"
        other = f'{split}_dataloader.{collate}, which leaves it to the model to pad them'
    elif pads:
        other = (
            'model.data_preprocessor.size=None and model.data_preprocessor.size_divisor=32, which '
            'pads them'
        )
    else:
        other = f'{split}_dataloader.batch_size=1'
    by = 'default_collate' if collated else type(preprocessor).__name__
    return (
        f'The images of a batch of the {split}_dataloader have several sizes'
        f'{f" ({listed})" if listed else ""}, which {by} does not stack. '
        "Bring them to one size in its pipeline (dict(type='Resize', scale=(W, H), "
        f'keep_ratio=False), or RandomCrop and Pad), or set {other}.'
    )

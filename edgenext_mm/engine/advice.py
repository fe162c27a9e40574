"""Adds advice to errors of torch and OpenMMLab that a change of the config can fix."""

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

#: Raised by DistributedDataParallel one step after a parameter got no gradient.
_UNUSED = 'Expected to have finished reduction in the prior iteration'
#: Raised by BatchNorm for one image with a map of one pixel.
_ONE_VALUE = 'Expected more than 1 value per channel'
#: Raised by torch and mmseg for images of several sizes, and the functions that raise it.
_SEVERAL_SIZES = re.compile(
    r'stack expects each tensor to be equal size|image size in a batch should be the same'
    r'|only one of size and size_divisor should be valid'
)
_BATCHING = re.compile(r'in (stack_batch|\w*collate\w*)\b|\w*data_preprocessor\.py')
#: The number of parameters or sizes that a message names.
_MAX_NAMES = 6


@contextmanager
def explained_errors(runner: Runner) -> Iterator[None]:
    """Adds advice to errors that are raised in the ``with`` block.

    Args:
        runner: The runner that trains or tests.

    Raises:
        UserError: If the config can fix the error, which is its cause. Other errors pass unchanged.
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
    if _SEVERAL_SIZES.search(text):
        # The message includes the traceback of a data loading process.
        function = _BATCHING.search(''.join(traceback.format_exception(error)))
        if function:
            split = 'train' if model.training else 'val'
            return several_sizes_advice(model, split, collated='default_collate' in function[0])
    return None


def _unused_parameters(model: nn.Module, text: str) -> str:
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    found = re.search(r'did not receive grad for rank \d+: ([\d ]+)', text)
    names = [trained[int(i)] for i in found[1].split()] if found else []
    more = f' and {len(names) - _MAX_NAMES} more' if len(names) > _MAX_NAMES else ''
    stages = sorted(
        {found[1] for name in names if (found := re.match(r'backbone\.norm(\d)', name))}
    )
    fix = (
        f'Nothing uses the feature maps of stage {", ".join(stages)} of the backbone: remove them '
        'from model.backbone.out_indices (and adapt in_channels and start_level of the neck)'
        if stages
        else 'Remove these parts from the model, or freeze them'
    )
    return (
        f'The loss does not depend on these parameters: {", ".join(names[:_MAX_NAMES])}{more}. '
        'With several processes, each trained parameter needs a gradient. '
        f'{fix}. Or set `find_unused_parameters = True` at the top level of the config, which '
        'takes some time in each step.'
    )


def _failed_norm(model: nn.Module, error: Exception) -> str:
    """Returns the name of the BatchNorm layer that raised an error; empty if it is unknown."""
    names = {id(module): name for name, module in model.named_modules()}
    frames = [frame.f_locals.get('self') for frame, _ in traceback.walk_tb(error.__traceback__)]
    norms = [module for module in frames if isinstance(module, _BatchNorm)]
    return names.get(id(norms[-1]), '') if norms else ''


def one_value_advice(layer: str) -> str:
    """Returns the advice for a BatchNorm layer that gets one image with a map of one pixel.

    Args:
        layer: The name of the layer; empty if it is unknown.
    """
    name = f' `{layer}`' if layer else ''
    return (
        f'The BatchNorm layer{name} cannot train on a batch of one image whose feature map has one '
        'pixel, because one value has no variance. Set train_dataloader.drop_last=True if only the '
        'last batch has one image; else set a larger train_dataloader.batch_size, or another norm '
        "(in necks and heads, norm_cfg=dict(type='GN', num_groups=8))."
    )


def several_sizes_advice(
    model: nn.Module,
    split: str,
    sizes: Collection[tuple[int, int]] = (),
    collated: bool = False,
) -> str:
    """Returns the advice for a batch whose images cannot be stacked.

    Args:
        model: The model, whose ``data_preprocessor`` stacks images.
        split: The split of the batch, ``train`` or ``val``.
        sizes: Heights and widths of the images, if they are known. Default: none.
        collated: Whether ``default_collate`` stacks the images in the data loader. Default: False.
    """
    preprocessor = model.data_preprocessor
    listed = ', '.join(f'{height}x{width}' for height, width in sorted(sizes)[:_MAX_NAMES])
    if collated:
        alternative = (
            f"{split}_dataloader.collate_fn=dict(type='pseudo_collate'), so that the model pads "
            'them'
        )
    elif split == 'train' and hasattr(preprocessor, 'size_divisor'):
        alternative = (
            'model.data_preprocessor.size=None and model.data_preprocessor.size_divisor=32, so '
            'that the model pads them'
        )
    else:
        alternative = f'{split}_dataloader.batch_size=1'
    stacker = 'default_collate' if collated else type(preprocessor).__name__
    return (
        f'The images of a batch of the {split}_dataloader have several sizes'
        f'{f" ({listed})" if listed else ""}, which {stacker} cannot stack. Resize them to one '
        "size in the pipeline (dict(type='Resize', scale=(W, H), keep_ratio=False), or RandomCrop "
        f'and Pad), or set {alternative}.'
    )

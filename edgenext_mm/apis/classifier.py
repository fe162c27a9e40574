"""Classifiers with other classes."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from mmengine.config import Config
from torch import nn

from ..errors import UserError
from ..models.building import build_model


def reset_classifier(
    model: nn.Module, num_classes: int, classes: Sequence[str] | None = None
) -> nn.Module:
    """Copies a classifier with a new last layer for another number of classes.

    All other weights are kept. The config of the copy has the new number of classes, so that it can
    be trained, saved and exported. timm's method of this name changes the model itself.

    Args:
        model: A classifier of mmpretrain from :func:`~edgenext_mm.load_model` or
            :func:`~edgenext_mm.get_model`; it is not changed.
        num_classes: The new number of classes, positive.
        classes: Names of the new classes. Default: None, unknown.

    Returns:
        The copy, with the device and mode of the model.

    Raises:
        UserError: If the model is not a classifier with a config, or the numbers are wrong.

    Example:
        >>> model = get_model('edgenext-small_3rdparty_in1k')  # doctest: +SKIP
        >>> model = reset_classifier(model, 2, ['cat', 'dog'])  # doctest: +SKIP
    """
    config = deepcopy(getattr(model, 'cfg', Config(dict(model={}))))
    head = config.model.get('head')
    if not head or 'num_classes' not in head:
        raise UserError(
            f'This {type(model).__name__} is not a classifier from load_model, whose config has '
            '`model.head.num_classes`. The heads of other models are set in their configs.'
        )
    if not isinstance(num_classes, int) or num_classes < 1:
        raise UserError(f'`num_classes` is {num_classes!r}. Give a positive number.')
    if classes is not None and len(classes) != num_classes:
        raise UserError(f'`classes` has {len(classes)} names, but `num_classes` is {num_classes}.')
    old = head.num_classes
    head.num_classes = num_classes
    for preprocessor in (config.get('data_preprocessor'), config.model.get('data_preprocessor')):
        if preprocessor and 'num_classes' in preprocessor:
            preprocessor.num_classes = num_classes
    for name in ('val_evaluator', 'test_evaluator'):
        evaluator = config.get(name)
        if isinstance(evaluator, dict) and 'topk' in evaluator:
            evaluator['topk'] = tuple(k for k in evaluator['topk'] if k < num_classes) or (1,)

    copy = build_model(config)
    copy.head.init_weights()
    kept = {
        name: value
        for name, value in model.state_dict().items()
        if not (name.startswith('head.') and value.shape[:1] == (old,))
    }
    copy.load_state_dict(kept, strict=False)
    copy.cfg = config
    copy.dataset_meta = {} if classes is None else dict(classes=tuple(classes))
    return copy.to(next(model.parameters()).device).train(model.training)

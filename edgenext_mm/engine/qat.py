"""The config of quantization-aware fine-tuning."""

from __future__ import annotations

import math

from mmengine.config import Config

from ..checkpoints.finding import find_checkpoint
from ..checkpoints.latest import find_best, find_latest
from ..errors import UserError
from .work_folder import work_folder

#: Length and learning rate, as shares of those of the training.
_LENGTH, _RATE = 0.1, 0.1


def merge_qat(config: Config, checkpoint: str) -> None:
    """Turns the config of a training into that of its quantization-aware fine-tuning.

    A tenth of its length, from a tenth of its learning rate to 0 along a cosine, into the
    training's work folder with ``_qat`` at its end. Data, augmentation and losses stay.

    Args:
        config: A full config; it is changed.
        checkpoint: The trained model; ``auto`` for the best, or else the latest checkpoint of the
            config's work folder.

    Raises:
        UserError: If there is no checkpoint.
    """
    folder = work_folder(config)
    if checkpoint == 'auto':
        found = find_best(folder) or find_latest(folder)
        if found is None:
            raise UserError(
                f'--qat goes on from a trained model, but {folder} holds no checkpoint. Train '
                'first, or give one: --qat CHECKPOINT.'
            )
        checkpoint = found
    config.load_from = str(find_checkpoint(checkpoint))
    config.work_dir = f'{folder}_qat'
    train_cfg = config.train_cfg
    by_epoch = 'max_epochs' in train_cfg
    length = 'max_epochs' if by_epoch else 'max_iters'
    train_cfg[length] = max(1, math.ceil(train_cfg[length] * _LENGTH))
    interval = train_cfg.get('val_interval', 1)
    train_cfg.val_interval = max(1, min(interval, train_cfg[length] // 5 or 1))
    config.optim_wrapper.optimizer.lr *= _RATE
    config.param_scheduler = [
        dict(
            type='CosineAnnealingLR',
            T_max=train_cfg[length],
            eta_min=0,
            by_epoch=by_epoch,
            convert_to_iter_based=by_epoch,
        )
    ]
    config.setdefault('custom_hooks', []).append(dict(type='edgenext_mm.QuantizationAwareHook'))

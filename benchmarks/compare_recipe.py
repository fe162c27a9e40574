"""Compare a config for ImageNet-1K with the paper's recipe, field by field.

Exits with status 1 where a field differs.

Example:
    python -m benchmarks.compare_recipe configs/classification/edgenext-small_8xb256_in1k.py
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.cli import add_config_options, make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.multi_scale_sampler import multi_scale_shapes
from edgenext_mm.models import ARCHS
from edgenext_mm.models.building import build_model

EPOCHS = (0, 10, 20, 160, 299)
#: Iterations that stand for an epoch when the schedule is played through.
EPOCH_LENGTH = 50


@dataclass(frozen=True)
class Field:
    """One setting.

    Args:
        name: What it is.
        recipe: What the paper or the authors' defaults say.
        config: What the resolved config says.
    """

    name: str
    recipe: str
    config: str

    @property
    def agrees(self) -> bool:
        """Whether both say the same."""
        return self.recipe == self.config


def compare_recipe(config: Config) -> list[Field]:
    """Compares a classifier's config with the recipe of its variant.

    Args:
        config: A full config of one of the paper's variants.

    Source: section 4.2 of the paper, and the defaults of https://github.com/mmaaz60/EdgeNeXt.
    """
    model = build_model(config)
    size = next(s for s in ('xxsmall', 'xsmall', 'small', 'base') if _arch(config).startswith(s))
    crop = _step(config, 'train', 'RandomResizedCrop')['scale']
    optim, optimizer = config.optim_wrapper, config.optim_wrapper.optimizer
    gpus = config.auto_scale_lr.base_batch_size // config.train_dataloader.batch_size
    return [
        Field('epochs', '300', str(config.train_cfg.max_epochs)),
        Field('optimiser', 'AdamW', optimizer.type),
        Field('betas', '(0.9, 0.999)', str(tuple(optimizer.betas))),
        Field('eps', '1e-08', f'{optimizer.eps:g}'),
        Field('learning rate', '0.006', f'{optimizer.lr:g}'),
        Field(
            'effective batch (GPUs x images x accumulated steps)',
            '8 x 256 x 2 = 4096',
            f'{gpus} x {config.train_dataloader.batch_size} x {optim.accumulative_counts} = '
            f'{config.auto_scale_lr.base_batch_size * optim.accumulative_counts}',
        ),
        Field('gradient clipping', 'none', str(optim.get('clip_grad') or 'none')),
        Field('AMP', 'yes', 'yes' if optim.type == 'AmpOptimWrapper' else 'no'),
        *_schedule(config),
        *_decay(model, config),
        Field('label smoothing', '0.1', f'{config.model.head.loss.label_smooth_val:g}'),
        Field(
            'drop path', *_per_size(size, 0, 0.1, config.model.backbone.get('drop_path_rate', 0))
        ),
        Field('EMA', 'decay 0.9995 per optimiser step, raw weights evaluated too', _ema(config)),
        Field('random resized crop', f'{crop}, bicubic', _crop(config)),
        Field('batches by crop size', *_batches(config, gpus)),
        Field('horizontal flip', '0.5', f'{_step(config, "train", "RandomFlip")["prob"]:g}'),
        Field(
            'RandAugment',
            *_per_size(
                size, 'none', '2 of timm_increasing, 9 of 10, std 0.5', _randaugment(config)
            ),
        ),
        Field('colour jitter', *_per_size(size, '0.4, 0.4, 0.4', 'none', _jitter(config))),
        Field('random erasing', 'none', 'none' if not _step(config, 'train', 'Erasing') else 'yes'),
        Field(
            'Mixup and CutMix',
            'none' if size != 'base' else 'Mixup 0.8, CutMix 1',
            ', '.join(f'{a.type} {a.alpha:g}' for a in _augments(config)) or 'none',
        ),
        Field('test', f'resize {int(crop / 0.875)}, bicubic, crop {crop}', _test(config)),
    ]


def _arch(config: Config) -> str:
    arch = config.model.backbone.arch
    return arch if arch in ARCHS else arch['base']


def _per_size(size: str, light: Any, heavy: Any, ours: Any) -> tuple[str, str]:
    return str(light if size in ('xxsmall', 'xsmall') else heavy), str(ours)


def _step(config: Config, split: str, kind: str) -> dict[str, Any]:
    """The first step of a pipeline whose type ends in that name, or an empty dict."""
    pipeline = config[f'{split}_dataloader'].dataset.pipeline
    return next((step for step in pipeline if step['type'].endswith(kind)), {})


def _schedule(config: Config) -> list[Field]:
    peak, low = 6e-3, 1e-6
    cosine = [low + (peak - low) * (1 + math.cos(math.pi * (e - 20) / 280)) / 2 for e in EPOCHS]
    recipe = [peak * e / 20 if e < 20 else c for e, c in zip(EPOCHS, cosine, strict=True)]
    ours = play_schedule(config)[::EPOCH_LENGTH]
    return [
        Field(
            f'learning rate at epoch {epoch}',
            _rate(a),
            _rate(ours[epoch]) if epoch < len(ours) else 'no such epoch',
        )
        for epoch, a in zip(EPOCHS, recipe, strict=True)
    ]


def _rate(value: float) -> str:
    return '0' if value < 1e-8 else f'{value:.2e}'


def play_schedule(config: Config) -> list[float]:
    """The learning rate of every iteration, with :data:`EPOCH_LENGTH` of them per epoch."""
    wrapper = OptimWrapper(
        torch.optim.SGD([torch.zeros(1, requires_grad=True)], config.optim_wrapper.optimizer.lr)
    )
    schedulers = []
    for entry in config.param_scheduler:
        settings = dict(entry)
        settings.pop('convert_to_iter_based')
        kind = PARAM_SCHEDULERS.get(settings.pop('type'))
        schedulers.append(
            kind.build_iter_from_epoch(
                **settings, optimizer=wrapper.optimizer, epoch_length=EPOCH_LENGTH
            )
        )
    rates = []
    for _ in range(config.train_cfg.max_epochs * EPOCH_LENGTH):
        rates.append(wrapper.optimizer.param_groups[0]['lr'])
        wrapper.optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


def _decay(model: nn.Module, config: Config) -> list[Field]:
    """Which parameters decay, their names shortened to patterns with counts."""
    settings = {**config.optim_wrapper, 'type': 'OptimWrapper'}
    settings.pop('loss_scale', None)
    groups = build_optim_wrapper(model, settings).optimizer.param_groups
    decays = {id(p): group['weight_decay'] for group in groups for p in group['params']}
    ours: dict[float, list[str]] = {}
    recipe: dict[float, list[str]] = {}
    for name, p in model.named_parameters():
        ours.setdefault(decays[id(p)], []).append(name)
        recipe.setdefault(0.0 if p.ndim == 1 or name.endswith('.bias') else 0.05, []).append(name)
    return [
        Field(
            f'parameters with weight decay {decay:g}',
            _patterns(recipe.get(decay, [])),
            _patterns(ours.get(decay, [])),
        )
        for decay in sorted({*ours, *recipe})
    ]


def _patterns(names: list[str]) -> str:
    counts = Counter(re.sub(r'\b\d+\b', '*', name) for name in names)
    return ', '.join(f'{name} ({count})' for name, count in sorted(counts.items()))


def _ema(config: Config) -> str:
    hook = next((h for h in config.custom_hooks if h['type'].endswith('EMAHook')), None)
    if hook is None:
        return 'none'
    once = hook.get('interval', 1) == config.optim_wrapper.accumulative_counts
    return (
        f'decay {1 - hook["momentum"]:g} per {"optimiser step" if once else "iteration"}, '
        f'raw weights {"evaluated too" if hook.get("evaluate_on_origin") else "not evaluated"}'
    )


def _crop(config: Config) -> str:
    crop = _step(config, 'train', 'RandomResizedCrop')
    return f'{crop["scale"]}, {crop["interpolation"]}'


def _batches(config: Config, gpus: int) -> tuple[str, str]:
    sampler = dict(config.train_dataloader.get('batch_sampler') or {})
    base = sampler.pop('base_size', 256)
    recipe = {256: '656, 456, 256, 256, 256', 224: '504, 352, 256, 256, 256, 256'}[base]
    if not sampler.pop('type', '').endswith('MultiScaleBatchSampler'):
        return recipe, 'one size'
    shapes = multi_scale_shapes(
        config.train_dataloader.batch_size, base, world_size=gpus, **sampler
    )
    return recipe, ', '.join(str(shape.batch_size) for shape in shapes)


def _randaugment(config: Config) -> str:
    step = _step(config, 'train', 'RandAugment')
    if not step:
        return 'none'
    return (
        f'{step["num_policies"]} of {step["policies"]}, {step["magnitude_level"]} of '
        f'{step["total_level"]}, std {step["magnitude_std"]}'
    )


def _jitter(config: Config) -> str:
    step = _step(config, 'train', 'ColorJitter')
    names = ('brightness', 'contrast', 'saturation')
    return ', '.join(f'{step[name]:g}' for name in names) if step else 'none'


def _augments(config: Config) -> list[Any]:
    return (config.model.get('train_cfg') or {}).get('augments', [])


def _test(config: Config) -> str:
    resize, crop = _step(config, 'test', 'ResizeEdge'), _step(config, 'test', 'CenterCrop')
    return f'resize {resize["scale"]}, {resize["interpolation"]}, crop {crop["crop_size"]}'


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    add_config_options(parser)
    args = parser.parse_args()
    fields = compare_recipe(load_config(find_config(args.config), args.cfg_options))
    for field in fields:
        print(f'{"ok  " if field.agrees else "DIFF"}  {field.name}: {field.config}')
        if not field.agrees:
            print(f'      recipe: {field.recipe}')
    sys.exit(0 if all(field.agrees for field in fields) else 1)


if __name__ == '__main__':
    main()

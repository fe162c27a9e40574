"""Train EdgeNeXt and other light backbones on public data with the recipes for custom data.

Every backbone gets the same head, data, schedule and number of images, from random weights. A
training writes one record to benchmarks/records; --update writes the table of all records.

Download a set, in the layout of its authors, and give its folder:

    sign_digits  Sign-Language-Digits-Dataset: class folders in train/ and val/ (Apache-2.0)
    bccd         BCCD Dataset: Pascal VOC XML (MIT)
    camvid       CamVid with 11 classes and void = 11: images/ and masks/ (research use)
    hit_uav      HIT-UAV: roLabelImg XML (CC BY 4.0, doi 10.1038/s41597-023-02066-6)

Examples:
    python -m benchmarks.public_data bccd --source downloads/BCCD
    python -m benchmarks.public_data bccd --source downloads/BCCD --model mobilevit_xxs --seed 1
    python -m benchmarks.public_data --update docs/results.md
"""

from __future__ import annotations

import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from mmengine.config import Config

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.datasets.importing import import_data
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing

from .documents import markdown_table, update_table
from .machine import describe_machine

RECORDS = Path(__file__).parent / 'records'
OURS = 'edgenext-xxsmall'
#: timm's names.
PEERS = ('mobilenetv3_large_100', 'mobilevit_xxs', 'mobilenetv4_conv_small')


class PublicSet(NamedTuple):
    """A public data set.

    Args:
        task: The task.
        metric: Name of the metric in the log.
        title: Name of the metric in the table.
        settings: Settings of the config that differ from the proposed ones: the budget.
        options: Options of the import.
    """

    task: str
    metric: str
    title: str
    settings: Mapping[str, Any]
    options: Mapping[str, Any]


SETS = {
    'sign_digits': PublicSet(
        'classification',
        'accuracy/top1',
        'top-1',
        dict(max_epochs=200, image_size=64),
        dict(),
    ),
    'bccd': PublicSet(
        'detection',
        'coco/bbox_mAP_50',
        'AP50',
        dict(max_epochs=40, image_size=(416, 320), batch_size=4, lr_from_scratch=2e-3),
        dict(recipe='gfl'),
    ),
    'camvid': PublicSet(
        'segmentation',
        'mIoU',
        'mIoU',
        dict(
            max_epochs=40,
            image_size=(480, 352),
            crop_size=(256, 256),
            batch_size=8,
            lr_from_scratch=2e-3,
            class_balance=True,
        ),
        dict(
            void=[11],
            classes=[
                'sky',
                'building',
                'pole',
                'road',
                'pavement',
                'tree',
                'sign',
                'fence',
                'car',
                'pedestrian',
                'bicyclist',
            ],
        ),
    ),
    'hit_uav': PublicSet(
        'rotated-detection',
        'dota/AP50',
        'AP50',
        dict(
            max_epochs=36,
            image_size=(640, 512),
            crop_size=(320, 256),
            batch_size=8,
            class_balance=True,
        ),
        dict(format='rolabelimg', classes=['Person', 'Car', 'Bicycle', 'OtherVehicle']),
    ),
}


def backbone_options(config: Config, model: str) -> dict[str, Any]:
    """Returns the settings that put a backbone of timm into a config of ours.

    Args:
        config: A config with EdgeNeXt.
        model: Name of timm, with feature maps at strides 4 to 32.
    """
    ours = config.model.backbone
    stages = ours.get('out_indices', (3,))
    info = timm.create_model(model, features_only=True).feature_info
    levels = {reduction: i for i, reduction in enumerate(info.reduction())}
    indices = tuple(levels[4 * 2**stage] for stage in stages)
    channels = [info.channels()[i] for i in indices]
    options: dict[str, Any] = {
        'model.backbone': dict(
            _delete_=True,
            type='mmpretrain.TIMMBackbone',
            model_name=model,
            features_only=True,
            out_indices=indices,
        )
    }
    if 'neck' in config.model:
        options['model.neck.in_channels'] = channels
    elif 'decode_head' in config.model:
        options['model.decode_head.in_channels'] = channels
    else:
        options['model.neck'] = dict(type='GlobalAveragePooling')
        options['model.head.in_channels'] = channels[0]
    return options


def train(
    name: str, source: str, model: str, seed: int, work: Path, recipe_anchors: bool = False
) -> dict[str, Any]:
    """Imports a set, trains a backbone on it and returns the record.

    Args:
        name: A key of :data:`SETS`.
        source: Folder of the set as downloaded.
        model: :data:`OURS` or one of :data:`PEERS`.
        seed: Seed of weights, order and augmentation.
        work: Folder for the imported data and the trainings.
        recipe_anchors: Whether to use the anchors of COCO's or DOTA's config instead of those
            fitted to the data. Default: False.
    """
    chosen = SETS[name]
    root = work / 'data' / name
    if not root.is_dir():
        import_data(source, chosen.task, root, link=True, pretrained=False, **chosen.options)
    path = next(root.glob('*.py'))
    options = dict(chosen.settings, data_root=str(root), randomness=dict(seed=seed))
    if recipe_anchors:
        scale = load_config(path, options).get('default_anchor_scale')
        if scale is None:
            raise UserError(f'The detector of {name} has no anchor scale to compare.')
        options['anchor_scale'] = scale
    config = load_config(path, options)
    if model != OURS:
        config.merge_from_dict(backbone_options(config, model))
    config.experiment_name = record_name(name, model, seed, recipe_anchors)
    config.work_dir = str(work / config.experiment_name)
    config.train_cfg.val_interval = max(1, config.train_cfg.max_epochs // 5)
    runner = build_runner(config)
    start = time.process_time()
    runner.train()
    minutes = (time.process_time() - start) / 60
    logs = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text().splitlines()
    curve = [entry[chosen.metric] for entry in map(json.loads, logs) if chosen.metric in entry]
    shape = input_shape(config)
    cost = count_complexity(runner.model, shape, openmmlab=True)
    return dict(
        set=name,
        model=model,
        seed=seed,
        metric=chosen.title,
        final=curve[-1],
        curve=curve,
        epochs=config.train_cfg.max_epochs,
        batch_size=config.train_dataloader.batch_size,
        image_size=list(shape[::-1]),
        images=config.train_cfg.max_epochs * len(runner.train_dataloader.dataset),
        cpu_minutes=round(minutes, 1),
        anchors='recipe' if recipe_anchors else 'fitted',
        parameters=cost.params,
        madds=cost.madds,
        latency_ms=round(latency(runner.model, shape), 2),
        machine=describe_machine(),
        threads=torch.get_num_threads(),
    )


def record_name(name: str, model: str, seed: int, recipe_anchors: bool) -> str:
    """Returns the name of a training and its record."""
    return f'{name}-{model}-{seed}' + '-recipe-anchors' * recipe_anchors


def latency(model: torch.nn.Module, shape: Sequence[int]) -> float:
    """Median milliseconds of the network for one image, of 20 runs after three, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    images, times = torch.randn(1, 3, *shape), []
    model.eval()
    with torch.inference_mode():
        for _ in range(23):
            start = time.perf_counter()
            features = model.extract_feat(images)
            head = getattr(model, 'bbox_head', None) or getattr(model, 'decode_head', None)
            (head or model.head)(features)
            times.append(1e3 * (time.perf_counter() - start))
    torch.set_num_threads(threads)
    return statistics.median(times[3:])


def grouped_records() -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Returns the records of all seeds by set, backbone and kind of anchors, in this order."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(RECORDS.glob('*.json')):
        record = json.loads(path.read_text())
        groups[record['set'], record['model'], record['anchors']].append(record)
    if not groups:
        raise UserError(f'{RECORDS} holds no record. Train first.')
    sets, models = list(SETS), [OURS, *PEERS]
    keys = sorted(groups, key=lambda key: (sets.index(key[0]), models.index(key[1]), key[2]))
    return {key: groups[key] for key in keys}


def mean_of_seeds(records: Sequence[Mapping[str, Any]]) -> str:
    """Returns the mean of the metric and, of several seeds, each value."""
    values = [record['final'] for record in records]
    digits = 1 if max(values) > 1 else 3
    shown = [f'{value:.{digits}f}' for value in values]
    each = f' ({", ".join(shown)})' * (len(shown) > 1)
    return f'{statistics.mean(values):.{digits}f}{each}'


def anchors_table() -> str:
    """Returns the table of fitted anchors and those of the recipes."""
    groups = grouped_records()
    rows = [
        [name, model, records[0]['metric'], mean_of_seeds(groups[name, model, 'fitted']),
         mean_of_seeds(records)]
        for (name, model, anchors), records in groups.items()
        if anchors == 'recipe' and (name, model, 'fitted') in groups
    ]  # fmt: skip
    return markdown_table(['set', 'backbone', 'metric', 'fitted', "recipe's"], rows)


def results_table() -> str:
    """Returns the table of all backbones."""
    rows = []
    for (name, model, anchors), records in grouped_records().items():
        first = records[0]
        if anchors == 'recipe':
            continue
        rows.append(
            [
                name,
                model,
                first['metric'],
                mean_of_seeds(records),
                f'{first["parameters"] / 1e6:.2f}M',
                f'{first["madds"] / 1e9:.3f}G',
                f'{statistics.median(r["latency_ms"] for r in records):.1f} ms',
                'x'.join(map(str, first['image_size'])),
                f'{first["images"]:,}',
                f'{statistics.mean(r["cpu_minutes"] for r in records):.0f} min',
            ]
        )
    head = ['set', 'backbone', 'metric', 'mean (seeds)', 'parameters', 'MAdds', 'latency']
    return markdown_table([*head, 'input', 'images seen', 'CPU time'], rows)


@reports_errors
def main() -> None:
    """Trains a backbone, or writes the table."""
    parser = make_parser(__doc__)
    parser.add_argument('set', nargs='?', choices=SETS, help='the data set')
    parser.add_argument('--source', help='folder of the downloaded set')
    parser.add_argument('--model', default=OURS, choices=[OURS, *PEERS])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--recipe-anchors', action='store_true', help="the recipe's anchors instead of fitted ones"
    )
    parser.add_argument('--work', default='work_dirs/public_data', help='folder for trainings')
    parser.add_argument('--update', metavar='FILE', help='write the table into this document')
    args = parser.parse_args()
    if args.update:
        update_table(args.update, 'results', results_table())
        if any(anchors == 'recipe' for _, _, anchors in grouped_records()):
            update_table(args.update, 'anchors', anchors_table())
        return
    if not args.set or not args.source:
        raise UserError('Give a data set and its folder (--source), or --update FILE.')
    options = args.set, args.source, args.model, args.seed, Path(args.work), args.recipe_anchors
    record = train(*options)
    RECORDS.mkdir(exist_ok=True)
    name = record_name(args.set, args.model, args.seed, args.recipe_anchors)
    with replacing(RECORDS / f'{name}.json') as temporary:
        temporary.write_text(json.dumps(record, indent=1) + '\n')
    print(f'{record["metric"]} {record["final"]:.4g} after {record["cpu_minutes"]} CPU minutes')


if __name__ == '__main__':
    main()

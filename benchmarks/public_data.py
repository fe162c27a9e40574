"""Train EdgeNeXt and other light backbones on public data with the recipes for custom data.

Every backbone gets the same head, data, schedule and number of images, from random weights. A
training writes one record to benchmarks/records; benchmarks.public_tables writes the tables. A full
training of ours is followed by its report.

Download a set, in the layout of its authors, and give its folder:

    sign_digits  Sign-Language-Digits-Dataset: class folders in train/ and val/ (Apache-2.0)
    bccd         BCCD Dataset: Pascal VOC XML (MIT)
    camvid       CamVid with 11 classes and void = 11: images/ and masks/ (research use)
    hit_uav      HIT-UAV: roLabelImg XML (CC BY 4.0, doi 10.1038/s41597-023-02066-6)

Examples:
    python -m benchmarks.public_data bccd --source downloads/BCCD
    python -m benchmarks.public_data bccd --source downloads/BCCD --short --model mobilevit_xxs
"""

from __future__ import annotations

import copy
import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from mmengine.config import Config

from edgenext_mm.apis.complexity import count_complexity
from edgenext_mm.apis.model import load_model
from edgenext_mm.checkpoints.latest import find_latest
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.custom import anchors
from edgenext_mm.datasets.custom.layout import CustomData
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.datasets.importing import import_data
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing
from edgenext_mm.report.writing import write_report

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
            max_epochs=35,
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


class Run(NamedTuple):
    """A training.

    Args:
        set: A key of :data:`SETS`.
        model: :data:`OURS` or one of :data:`PEERS`.
        seed: Seed of weights, order and augmentation.
        short: Whether to train for a fifth of the epochs. Default: False.
        recipe: Recipe of the config. Default: that of :data:`SETS`.
        recipe_anchors: Whether to use the anchors of COCO's or DOTA's config instead of those
            fitted to the data. Default: False.
    """

    set: str
    model: str
    seed: int
    short: bool = False
    recipe: str | None = None
    recipe_anchors: bool = False

    @property
    def name(self) -> str:
        """Name of its work folder and record."""
        parts = [self.set, self.recipe, self.model, str(self.seed)]
        marks = ['short'] * self.short + ['recipe-anchors'] * self.recipe_anchors
        return '-'.join(filter(None, [*parts, *marks]))


def config_of(run: Run, source: str, work: Path) -> Config:
    """Imports the data unless they are there, and returns the config of a training.

    Args:
        run: The training.
        source: Folder of the set as downloaded.
        work: Folder for the imported data and the trainings.

    Raises:
        UserError: If its detector has no anchors to compare.
    """
    chosen = SETS[run.set]
    root = work / 'data' / '-'.join(filter(None, (run.set, run.recipe)))
    if not root.is_dir():
        options = dict(chosen.options, **(dict(recipe=run.recipe) if run.recipe else {}))
        import_data(source, chosen.task, root, link=True, pretrained=False, **options)
    path = next(root.glob('*.py'))
    options = dict(chosen.settings, data_root=str(root), randomness=dict(seed=run.seed))
    if run.short:
        options['max_epochs'] = math.ceil(options['max_epochs'] / 5)
    recipe = load_config(path, options)
    if 'anchor_scale' in recipe and not run.recipe_anchors:
        boxes = CustomData(root, chosen.task).boxes()
        scaled = anchors.resized(boxes, recipe.image_size, keep_ratio=True)
        options['anchor_scale'] = anchors.fit_fpn_scale(scaled, recipe.anchor_scale)
    elif 'anchor_sizes' in recipe and run.recipe_anchors:
        options['anchor_sizes'] = anchors.SSD_SIZES
    elif run.recipe_anchors and 'anchor_scale' not in recipe:
        raise UserError(f'The detector of {run.set} has no anchors to compare.')
    config = load_config(path, options)
    if run.model != OURS:
        config.merge_from_dict(backbone_options(config, run.model))
    config.experiment_name = run.name
    config.work_dir = str(work / run.name)
    epochs = config.train_cfg.max_epochs
    config.train_cfg.val_interval = epochs if run.short else max(1, epochs // 5)
    return config


def train(run: Run, config: Config) -> dict[str, Any]:
    """Trains, and returns the record.

    Args:
        run: The training.
        config: Its config.
    """
    chosen = SETS[run.set]
    runner = build_runner(config)
    start = time.process_time()
    runner.train()
    minutes = (time.process_time() - start) / 60
    logs = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text().splitlines()
    curve = [entry[chosen.metric] for entry in map(json.loads, logs) if chosen.metric in entry]
    shape = input_shape(config)
    cost = count_complexity(runner.model, shape, openmmlab=True)
    return dict(
        run._asdict(),
        metric=chosen.title,
        final=curve[-1],
        curve=curve,
        epochs=config.train_cfg.max_epochs,
        batch_size=config.train_dataloader.batch_size,
        image_size=list(shape[::-1]),
        images=config.train_cfg.max_epochs * len(runner.train_dataloader.dataset),
        cpu_minutes=round(minutes, 1),
        parameters=cost.params,
        madds=cost.madds,
        latency_ms=round(latency(runner.model, shape), 2),
        machine=describe_machine(),
        threads=torch.get_num_threads(),
    )


def report(run: Run, config: Config) -> dict[str, float]:
    """Writes the report into the work folder, and returns the numbers for the record."""
    folder = Path(config.work_dir)
    checkpoint = find_latest(folder)
    if checkpoint is None:
        raise UserError(f'{folder} holds no checkpoint to report on.')
    model = load_model(config, checkpoint, 'cpu')
    numbers = write_report(
        config, model, folder / 'report', source=checkpoint, work_dir=folder, command=run.name
    )
    overall = {f'report {name}': value for name, value in numbers['overall'].items()}
    return dict(overall, **{'report threshold': (numbers.get('threshold') or {}).get('value')})


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


@reports_errors
def main() -> None:
    """Trains a backbone and writes the record."""
    parser = make_parser(__doc__)
    parser.add_argument('set', choices=SETS, help='the data set')
    parser.add_argument('--source', required=True, help='folder of the downloaded set')
    parser.add_argument('--model', default=OURS, choices=[OURS, *PEERS])
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--short', action='store_true', help='a fifth of the epochs')
    parser.add_argument('--recipe', help='another recipe than that of the tables')
    parser.add_argument(
        '--recipe-anchors', action='store_true', help="the recipe's anchors instead of fitted ones"
    )
    parser.add_argument('--work', default='work_dirs/public_data', help='folder for trainings')
    args = parser.parse_args()
    run = Run(args.set, args.model, args.seed, args.short, args.recipe, args.recipe_anchors)
    config = config_of(run, args.source, Path(args.work))
    record = train(run, copy.deepcopy(config))
    if run.model == OURS and not run.short:
        record |= report(run, config)
    RECORDS.mkdir(exist_ok=True)
    with replacing(RECORDS / f'{run.name}.json') as temporary:
        temporary.write_text(json.dumps(record, indent=1) + '\n')
    print(f'{record["metric"]} {record["final"]:.4g} after {record["cpu_minutes"]} CPU minutes')


if __name__ == '__main__':
    main()

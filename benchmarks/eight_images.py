"""Let models with EdgeNeXt learn eight images by heart: a head that misreads its maps cannot.

One model of each kind, from random weights, on digit scenes of 128 pixels without augmentation.
The metric on the same eight images should come close to 1. Takes minutes a model on one core.

Examples:
    python -m benchmarks.eight_images                     # all kinds
    python -m benchmarks.eight_images two-stage --steps 600
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from edgenext_mm.apis.backbone_exchange import use_backbone
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.scenes import SceneSettings, write_digit_scenes
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.files import new_folder, replacing

from .documents import markdown_table, update_table
from .families import IMAGE_SIZE, shrunk

RECORDS = Path(__file__).parent / 'records' / 'eight_images.json'
#: A config of each kind of model.
KINDS = {
    'one-stage': 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
    'two-stage': 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'DETR-type': 'mmdet::dino/dino-4scale_r50_8xb2-12e_coco.py',
    'instance segmentation': 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'segmentation': 'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
    'rotated one-stage': 'mmrotate::rotated_fcos/rotated-fcos-le90_r50_fpn_1x_dota.py',
    'rotated two-stage': 'mmrotate::oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota.py',
}
#: Metrics by their names in the log, the first that a model has counts.
METRICS = ('coco/segm_mAP', 'coco/bbox_mAP', 'mIoU', 'dota/AP50')
#: Steps of a pipeline that do not change an image at random.
PLAIN_STEPS = ('LoadImageFromFile', 'LoadAnnotations', 'Resize', 'ConvertBoxType')


def write_scenes(data: Path) -> None:
    """Writes eight scenes, which are both the training and the validation data."""
    if data.is_dir():
        return
    with new_folder(data) as folder:
        scenes = folder / 'scenes'
        write_digit_scenes(
            scenes, SceneSettings(num_train=8, num_val=1, size=IMAGE_SIZE, max_digits=3)
        )
        shutil.rmtree(scenes / 'val')
        shutil.copytree(scenes / 'train', scenes / 'val')
        shutil.copy(scenes / 'annotations' / 'train.json', scenes / 'annotations' / 'val.json')


def config_of(base: str, folder: Path, data: Path, steps: int) -> Config:
    """The config of a model with EdgeNeXt for a training on the scenes."""
    path = folder / 'config.py'
    use_backbone(base, path, 'xxsmall', weights=None)
    config = shrunk(load_config(path), data, folder / 'data')
    loader = config.train_dataloader
    loader.batch_size = 8
    loader.dataset.pipeline = _plain(loader.dataset.pipeline)
    config.optim_wrapper.optimizer = dict(type='AdamW', lr=5e-4, weight_decay=0.01)
    config.optim_wrapper.paramwise_cfg = dict(norm_decay_mult=0.0, bias_decay_mult=0.0)
    config.train_cfg = dict(max_epochs=steps, val_interval=steps // 4, by_epoch=True)
    config.param_scheduler = [
        dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=20),
        dict(type='CosineAnnealingLR', eta_min=1e-6, by_epoch=True, begin=20, end=steps),
    ]
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=-1, save_last=False)
    config.work_dir, config.experiment_name = str(folder / 'work'), folder.name
    return config


def _plain(pipeline: list[ConfigDict]) -> list[Any]:
    """A pipeline without random changes; its images are scaled to one size."""
    steps = [s for s in pipeline if s.type.split('.')[-1] in PLAIN_STEPS or 'Pack' in s.type]
    resize = ConfigDict(type='mmdet.Resize', scale=(IMAGE_SIZE, IMAGE_SIZE), keep_ratio=True)
    if all(step.type.split('.')[-1] != 'Resize' for step in steps):
        steps.insert(-1, resize)
    return steps


def learn(kind: str, work: Path, steps: int) -> dict[str, Any]:
    """Trains a model and returns its record."""
    data, folder = work / 'eight', work / kind.replace(' ', '-')
    write_scenes(data)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    runner = build_runner(config_of(KINDS[kind], folder, data, steps))
    start = time.process_time()
    runner.train()
    logs = Path(runner.log_dir, 'vis_data', 'scalars.json').read_text().splitlines()
    entries = [json.loads(line) for line in logs]
    metric = next(name for name in METRICS if any(name in entry for entry in entries))
    curve = [entry[metric] for entry in entries if metric in entry]
    curve = [value / 100 if metric == 'mIoU' else value for value in curve]
    minutes = round((time.process_time() - start) / 60, 1)
    return dict(config=KINDS[kind], metric=metric, curve=curve, steps=steps, cpu_minutes=minutes)


def table() -> str:
    """The table of all records."""
    records = json.loads(RECORDS.read_text())
    rows = [
        [kind, f'`{r["config"]}`', r['metric'], f'{r["curve"][-1]:.3f}', r['steps']]
        for kind, r in records.items()
    ]
    return markdown_table(['kind', 'config', 'metric', 'on the eight images', 'steps'], rows)


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('kinds', nargs='*', choices=[[], *KINDS], metavar='KIND', default=[])
    parser.add_argument('--steps', type=int, default=400, help='steps of training (default: 400)')
    parser.add_argument('--work', default='work_dirs/eight_images', help='folder for trainings')
    parser.add_argument('--update', metavar='FILE', help='write the table into this document')
    args = parser.parse_args()
    if args.update:
        update_table(args.update, 'eight-images', table())
        return
    for kind in args.kinds or KINDS:
        record = learn(kind, Path(args.work), args.steps)
        records = json.loads(RECORDS.read_text()) if RECORDS.is_file() else {}
        with replacing(RECORDS) as temporary:
            temporary.write_text(json.dumps({**records, kind: record}, indent=1) + '\n')
        print(f'{kind}: {record}')


if __name__ == '__main__':
    main()

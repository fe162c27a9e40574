"""Data in the format that a config asks for, at the places where it looks, from digit scenes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope
from PIL import Image

from edgenext_mm.datasets.checks.config_data import leaves

SPLITS = ('train', 'val')


def with_generated_data(config: Config, scenes: Path, digits: Path, folder: Path) -> Config:
    """The config on data of its own format, written to ``folder``; its images are small."""
    init_default_scope(config.default_scope)
    roots = {
        leaf.data_root: f'{folder}/'
        for split in SPLITS
        for leaf in leaves(config[f'{split}_dataloader'].dataset)
    }
    config = Config(_replace_roots(config.to_dict(), roots), filename=config.filename)
    for split in SPLITS:
        for leaf in leaves(config[f'{split}_dataloader'].dataset):
            _write(leaf, scenes / split, digits / split, config)
    return config


def _replace_roots(value: Any, roots: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _replace_roots(v, roots) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_replace_roots(v, roots) for v in value)
    if isinstance(value, str):
        for old, new in roots.items():
            if value == old or value.startswith(old.rstrip('/') + '/'):
                return new + value[len(old.rstrip('/')) + 1 :]
    return value


def _write(leaf: ConfigDict, scenes: Path, digits: Path, config: Config) -> None:
    if leaf.type in ('ImageNet', 'CustomDataset', 'edgenext_mm.ImageFolder'):
        _write_class_folders(leaf, digits, config.model.head.num_classes)
        return
    for name in leaf.data_prefix.values():  # some data sets want to see their files at once
        Path(leaf.data_root, name).mkdir(parents=True, exist_ok=True)
    if leaf.get('ann_file', '').endswith('.txt'):
        _write_text(Path(leaf.data_root, leaf.ann_file), '')
    lazy = DATASETS.build({**leaf, 'lazy_init': True, 'pipeline': []})
    classes = lazy.metainfo['classes']
    if leaf.type == 'CrowdHumanDataset':
        _write_crowd_human(scenes, lazy)
    elif 'img' in lazy.data_prefix:
        _write_coco(scenes, lazy, classes)
    elif 'seg_map_path' in lazy.data_prefix:
        _write_images(scenes, lazy.data_prefix['img_path'], lazy.img_suffix)
        masks = Path(lazy.data_prefix['seg_map_path'])
        masks.mkdir(parents=True, exist_ok=True)
        names = [path.stem for path in sorted((scenes / 'masks').iterdir())]
        for name in names:
            (masks / f'{name}{lazy.seg_map_suffix}').write_bytes(
                (scenes / 'masks' / f'{name}.png').read_bytes()
            )
        if lazy.ann_file:
            _write_text(lazy.ann_file, '\n'.join(names))
    else:
        _write_images(scenes, lazy.data_prefix['img_path'], f'.{lazy.img_suffix}')
        for path in (scenes / 'labelTxt').iterdir():
            fields = [line.split() for line in path.read_text().splitlines()]
            lines = [' '.join([*f[:8], classes[int(f[8])], f[9]]) for f in fields]
            _write_text(Path(lazy.ann_file, path.name), '\n'.join(lines))


def _write_class_folders(leaf: ConfigDict, digits: Path, count: int) -> None:
    target = Path(leaf.data_root, leaf.get('split') or leaf.data_prefix)
    target.mkdir(parents=True)
    for i in range(count):
        (target / f'{i:04d}').symlink_to(digits / str(i % 10))


def _write_coco(scenes: Path, lazy: Any, classes: Sequence[str]) -> None:
    if 'seg' in lazy.data_prefix:  # classes of all pixels beside the objects
        shutil.copytree(scenes / 'masks', lazy.data_prefix['seg'], dirs_exist_ok=True)
    _write_images(scenes, lazy.data_prefix['img'], '.png')
    coco = json.loads((scenes.parent / 'annotations' / f'{scenes.name}.json').read_text())
    coco['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
    _write_text(lazy.ann_file, json.dumps(coco))


def _write_crowd_human(scenes: Path, lazy: Any) -> None:
    """Writes persons as CrowdHuman has them: one JSON object for each image and line."""
    coco = json.loads((scenes.parent / 'annotations' / f'{scenes.name}.json').read_text())
    _write_images(scenes, lazy.data_prefix['img'], '.jpg')
    boxes: dict[int, list] = {image['id']: [] for image in coco['images']}
    for item in coco['annotations']:
        parts = {key: [round(v) for v in item['bbox']] for key in ('fbox', 'hbox', 'vbox')}
        boxes[item['image_id']].append(dict(tag='person', extra={}, head_attr={}, **parts))
    lines = [
        json.dumps(dict(ID=Path(image['file_name']).stem, gtboxes=boxes[image['id']]))
        for image in coco['images']
    ]
    _write_text(lazy.ann_file, '\n'.join(lines))


def _write_images(scenes: Path, folder: str | Path, suffix: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for path in (scenes / 'images').iterdir():
        Image.open(path).save(Path(folder, path.stem + suffix))


def _write_text(path: str | Path, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def shrink(value: Any, most: int = 128) -> Any:
    """Brings all sizes of images in a config that are beyond ``most`` pixels down to it."""
    if isinstance(value, (Config, dict)):
        for key, inner in value.items():
            sizes = key in ('scale', 'crop_size', 'size') and not isinstance(inner, dict)
            value[key] = _shrink_sizes(inner, most) if sizes else shrink(inner, most)
    elif isinstance(value, list):
        value[:] = [shrink(inner, most) for inner in value]
    return value


def _shrink_sizes(sizes: Any, most: int) -> Any:
    if isinstance(sizes, (list, tuple)):
        return type(sizes)(_shrink_sizes(inner, most) for inner in sizes)
    return sizes if sizes is None else min(sizes, most)

"""Imports a folder of annotated images: read, check, split, write, summarise."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...errors import UserError, caused_by
from ...files import new_folder
from ..custom.layout import TASKS, CustomData
from ..custom.proposals import check_recipe, propose
from ..palette import IGNORED
from .cleaning import clean
from .geometry import to_box
from .masks import outline_classes, scan_masks
from .measuring import measure
from .recognition import FORMATS, choose
from .records import Annotation, Annotations, Finding, ImageRecord
from .source import SourceFolder
from .splitting import SPLITS, assign_splits, check_fractions
from .writing import (
    ImageWriter,
    count_objects,
    write_class_folders,
    write_coco,
    write_dota,
    write_masks,
)

SUMMARY = 'import.json'  #: name of the summary in the written folder
_QUANTILES = (0, 5, 25, 50, 75, 95, 100)


@dataclass
class Summary:
    """What an import read and wrote; the content of ``import.json``.

    Args:
        task: The task.
        format: The format that was read.
        source: Absolute path of the source.
        classes: Class names in the order of their labels.
        ignore_index: Value of ignored pixels of masks; None for other tasks.
        splits: For each split: ``images``, ``empty`` (images without objects), ``objects`` and
            ``per_class``. For classification and masks, objects are images that have the class.
        pixels: Pixels per class of masks. Empty for other tasks.
        image_sizes: ``most_common`` as [width, height, count] and quantiles of ``width`` and
            ``height`` in pixels.
        image_suffix: Ending of the image files if it is the same for all, else None.
        box_sizes: Quantiles of ``width``, ``height`` and ``sqrt_area`` of upright boxes in pixels
            and of ``relative_size``: the root of the box's share of the image. Empty without boxes.
        objects_per_image: The same quantiles.
        seed: Seed of the split.
        config: Name of the config for training.
        findings: What was changed or left out, and notes.
    """

    task: str
    format: str
    source: str
    classes: list[str]
    ignore_index: int | None = None
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    image_sizes: dict[str, Any] = field(default_factory=dict)
    image_suffix: str | None = None
    box_sizes: dict[str, Any] = field(default_factory=dict)
    objects_per_image: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    config: str = ''
    findings: list[Finding] = field(default_factory=list)


def import_data(
    source: str | os.PathLike[str],
    task: str,
    out: str | os.PathLike[str],
    *,
    format: str = 'auto',
    split: Sequence[float] | None = None,
    seed: int = 0,
    group: str | None = None,
    classes: Sequence[str] | None = None,
    colors: str | os.PathLike[str] | None = None,
    void: Sequence[int] = (),
    link: bool = False,
    recipe: str | None = None,
    arch: str = 'xxsmall',
    pretrained: bool = True,
    progress: bool = False,
) -> Summary:
    """Brings annotated images of any known format into the layout that the configs read.

    The folder appears complete or not at all. It contains a config for training.

    Args:
        source: Folder, or annotation file in the folder of its images.
        task: One of :data:`~edgenext_mm.datasets.custom.layout.TASKS`.
        out: New or empty folder outside ``source``.
        format: A key of ``recognition.FORMATS``. Default: ``auto``, recognised.
        split: Fractions of train, val and, perhaps, test. Default: None, the splits of the source;
            0.8 and 0.2 if it has no validation images.
        seed: Seed of the split. Default: 0.
        group: Regular expression; images with the same match stay in one split. Default: None.
        classes: Classes to keep, in this order; names for the values of masks without a table.
            Default: None, all.
        colors: Table of mask colours. Default: None, searched in the source.
        void: Mask values to ignore, besides 255. Default: none.
        link: Whether to link images instead of copying them. Default: False.
        recipe: The recipe that the config inherits, see
            :data:`~edgenext_mm.datasets.custom.proposals.RECIPES`. Default: the first of the task.
        arch: Variant of EdgeNeXt in the config. Default: ``xxsmall``.
        pretrained: Whether the config starts from ImageNet-1K weights. Default: True.
        progress: Whether to show progress bars on stderr. Default: False.

    Returns:
        The summary, which is also written to ``import.json``.

    Raises:
        UserError: If the arguments or the source cannot be used.
    """
    out = Path(out)
    _check_arguments(source, task, out, format, split, classes)
    check_recipe(task, recipe)
    folder = SourceFolder(source)
    table = _table_in(folder, colors)
    name, candidate = choose(folder, task, format, table)
    try:
        data = candidate.read()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        where = folder.root / candidate.evidence
        raise caused_by(error, f'{where} cannot be read in the format {name}') from error
    if not data.images:
        raise UserError(
            f'{folder.root} is in the format {name} ({candidate.evidence}), but none of its images '
            f'can be used. {_why_nothing_is_left(data)}'
        )
    bar = partial(_bar, disable=not progress)
    measure(folder, data, bar(data.images, 'image sizes'))
    reader = None
    if data.legend is not None:
        reader = scan_masks(folder, data, classes, void, bar(data.images, 'masks'))
    else:
        clean(data, task, classes, bar(data.images, 'checks'))
    _check_what_is_left(data, task, f'{folder.root} (format {name})')
    if task == 'segmentation' and reader is None:
        outline_classes(data)
    assign_splits(data, partial(_contents, task), split, seed, group)
    _report_missing_classes(data, task)
    data.images.sort(key=lambda record: (SPLITS.index(record.split or 'train'), record.path))

    with _reports_failed_writing(out), new_folder(out) as temporary:
        write_image = ImageWriter(folder, link)
        images = bar(data.images, 'writing')
        pixels: Counter[str] = Counter()
        if task == 'classification':
            write_class_folders(data, temporary, write_image, images)
        elif task == 'segmentation':
            pixels = write_masks(data, temporary, write_image, images, reader)
        elif task == 'rotated-detection':
            write_dota(data, temporary, write_image, images)
        else:
            write_coco(data, temporary, write_image, images)
        summary = summarise(data, task, name, str(folder.root.resolve()), seed)
        summary.pixels = dict(pixels.most_common())
        summary.image_suffix = _suffix(temporary)
        proposal = propose(CustomData(temporary, task), out, recipe, arch, pretrained)
        summary.config = f'{proposal.name}.py'
        (temporary / summary.config).write_text(proposal.text())
        (temporary / SUMMARY).write_text(json.dumps(asdict(summary), indent=1))
    return summary


def _bar(images: Iterable[ImageRecord], what: str, disable: bool) -> Iterable[ImageRecord]:
    return tqdm(images, what, unit='image', disable=disable)


def _check_arguments(
    source: str | os.PathLike[str],
    task: str,
    out: Path,
    format: str,
    split: Sequence[float] | None,
    classes: Sequence[str] | None,
) -> None:
    if task not in TASKS:
        raise UserError(f'The task is one of {", ".join(TASKS)}, got {task!r}.')
    if format != 'auto' and format not in FORMATS:
        raise UserError(f'The format is auto or one of {", ".join(FORMATS)}, got {format!r}.')
    if split is not None:
        check_fractions(split)
    if classes is not None and len(set(classes)) < len(classes):
        raise UserError(f'The classes must differ, got {", ".join(classes)}.')
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f'{out} exists and is not empty. Choose another --out, or remove it.')
    if Path(source).is_dir() and Path(source).resolve() in [out.resolve(), *out.resolve().parents]:
        raise UserError(f'The folder {out} is inside the source {source}. Choose another --out.')


def _table_in(folder: SourceFolder, colors: str | os.PathLike[str] | None) -> str | None:
    if colors is None:
        return None
    if not Path(colors).is_file():
        raise UserError(f'The table of colours {colors} does not exist.')
    return os.path.relpath(Path(colors).resolve(), folder.root.resolve())


def _check_what_is_left(data: Annotations, task: str, source: str) -> None:
    if not data.images or not data.classes or not any(count_objects(data.images, task).values()):
        raise UserError(
            f'{source} has no annotation that can be used for {task}. {_why_nothing_is_left(data)}'
        )
    if len(data.classes) == 1 and (task == 'classification' or data.legend is not None):
        raise UserError(
            f'{source} has one class only, {data.classes[0]!r}. A model for {task} needs two or '
            'more to tell apart.'
        )


@contextmanager
def _reports_failed_writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise caused_by(error, f'The folder {out} cannot be written') from error


def _why_nothing_is_left(data: Annotations) -> str:
    """The most common reasons, each with an example."""
    kinds = Counter(f.kind for f in data.findings if f.action != 'note')
    if not kinds and data.legend is not None:
        return 'All pixels of the masks are ignored: they are 255, void in the table, or in --void.'
    if not kinds:
        return f'None of the {len(data.images):,} images has an object.'
    examples = {f.kind: f for f in reversed(data.findings)}
    return ' '.join(
        f'{"Once" if count == 1 else f"{count:,} times"}: {kind} (such as {examples[kind].file}'
        f'{": " if examples[kind].detail else ""}{examples[kind].detail}).'
        for kind, count in kinds.most_common(3)
    )


def _contents(task: str, record: ImageRecord) -> list[str]:
    return list(count_objects([record], task))


def _report_missing_classes(data: Annotations, task: str) -> None:
    """Reports classes that validation or testing has and training has not, and the reverse."""
    used = {
        split: count_objects([r for r in data.images if r.split == split], task)
        for split in SPLITS
        if any(r.split == split for r in data.images)
    }
    for split, counts in used.items():
        for name in counts:
            if split != 'train' and name not in used.get('train', {}):
                detail = f'{name}: {counts[name]:,} in {split}; it cannot be learnt'
                data.report('note', 'class that train does not have', '.', detail)
            elif split == 'train' and 'val' in used and name not in used['val']:
                detail = f'{name}: {counts[name]:,} in train; its accuracy is not measured'
                data.report('note', 'class that val does not have', '.', detail)


def summarise(data: Annotations, task: str, format: str, source: str, seed: int) -> Summary:
    """Counts images and objects, and describes the sizes of images and boxes."""
    summary = Summary(task, format, source, data.classes, seed=seed)
    summary.ignore_index = IGNORED if task == 'segmentation' else None
    for split in SPLITS:
        own = [record for record in data.images if record.split == split]
        if own:
            counts = count_objects(own, task)
            summary.splits[split] = dict(
                images=len(own),
                empty=sum(not record.annotations and not record.labels for record in own),
                objects=sum(counts.values()),
                per_class={name: counts[name] for name in data.classes},
            )
    sizes = Counter((record.width, record.height) for record in data.images)
    summary.image_sizes = dict(
        most_common=[[*size, count] for size, count in sizes.most_common(10)],
        width=_quantiles([record.width for record in data.images]),
        height=_quantiles([record.height for record in data.images]),
    )
    if task != 'classification' and data.legend is None:
        summary.objects_per_image = _quantiles([len(r.annotations) for r in data.images])
        summary.box_sizes = _box_sizes(
            [(record, annotation) for record in data.images for annotation in record.annotations]
        )
    summary.findings = data.findings
    return summary


def _box_sizes(objects: list[tuple[ImageRecord, Annotation]]) -> dict[str, Any]:
    boxes = np.array([to_box(annotation)[2:] for _, annotation in objects], float)
    images = np.array([(record.width, record.height) for record, _ in objects], float)
    area = boxes.prod(1)
    return dict(
        width=_quantiles(boxes[:, 0]),
        height=_quantiles(boxes[:, 1]),
        sqrt_area=_quantiles(area**0.5),
        relative_size=_quantiles((area / images.prod(1)) ** 0.5),
    )


def _quantiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Quantiles by percentage, as text because JSON has no other keys."""
    found: Any = np.percentile(np.asarray(values, float), _QUANTILES)
    return {str(q): round(float(v), 4) for q, v in zip(_QUANTILES, found, strict=True)}


def _suffix(out: Path) -> str | None:
    endings = {
        os.path.splitext(file)[1] for folder in out.glob('*/images') for file in os.listdir(folder)
    }
    return endings.pop() if len(endings) == 1 else None

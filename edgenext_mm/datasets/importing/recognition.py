"""Which annotation format a folder is in."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...errors import UserError
from ..custom.layout import TASKS
from .readers import (
    class_folders,
    coco_json,
    csv_tables,
    cvat_xml,
    datumaro_json,
    dota,
    labelme,
    mask_folders,
    voc_xml,
    yolo,
)
from .records import Annotations
from .source import SourceFolder, parent

_OBJECTS, _OUTLINES = ('detection', 'rotated-detection'), TASKS[1:]

#: Tasks that each format has annotations for.
FORMATS = {
    'class-folders': ('classification',),
    'csv': ('classification', 'detection'),
    'yolo': _OUTLINES,
    'voc': _OUTLINES,
    'rolabelimg': _OBJECTS,
    'coco': _OUTLINES,
    'labelme': TASKS,
    'cvat': TASKS,
    'datumaro': TASKS,
    'masks': ('segmentation',),
    'dota': _OBJECTS,
}

_SNIFFED_BYTES = 1 << 20  #: of the start and of the end of a JSON file
_SNIFFED_FILES = 20  #: text files of a folder


@dataclass(frozen=True)
class Candidate:
    """A format that was recognised.

    Args:
        evidence: A file or folder that shows it.
        read: Reads the source in this format.
    """

    evidence: str
    read: Callable[[], Annotations]


def recognise(source: SourceFolder, task: str, table: str | None = None) -> dict[str, Candidate]:
    """Finds all formats of :data:`FORMATS` that a folder has files of.

    Args:
        source: The folder.
        task: One of :data:`TASKS`. Class folders count for classification only.
        table: Path of a table of mask colours in the folder. Default: None.
    """
    found: dict[str, Candidate] = {}
    for name, files in _json_formats(source).items():
        reader = dict(coco=coco_json, labelme=labelme, datumaro=datumaro_json)[name]
        found[name] = Candidate(files[0], partial(reader.read, source, files))
    kinds = voc_xml.folders_of(source)
    for kind in ('voc', 'rolabelimg'):
        if folders := [folder for folder, found_kind in kinds.items() if found_kind == kind]:
            evidence = next(f for f in source.with_ending('.xml') if parent(f) == folders[0])
            found[kind] = Candidate(evidence, partial(voc_xml.read, source, kind))
    if files := [f for f in source.with_ending('.xml') if _is_cvat(source, f)]:
        found['cvat'] = Candidate(files[0], partial(cvat_xml.read, source, files))
    for name, file in _text_formats(source).items():
        found[name] = Candidate(file, partial(dict(yolo=yolo, dota=dota)[name].read, source))
    layouts = csv_tables.layouts(source)
    is_boxes = task != 'classification'
    for file, layout in layouts.items():
        if (layout == 'boxes') == is_boxes:
            read = csv_tables.read_boxes if is_boxes else csv_tables.read_labels
            found['csv'] = Candidate(file, partial(read, source))
            break
    if task == 'classification' and class_folders.recognises(source):
        evidence = f'{parent(source.images[0])}/'
        found['class-folders'] = Candidate(evidence, partial(class_folders.read, source))
    if task == 'segmentation' and mask_folders.recognises(source):
        evidence = next(mask for mask, images in mask_folders.pairs(source).items() if images)
        found['masks'] = Candidate(evidence, partial(mask_folders.read, source, table))
        _drop_boxes_of_voc(source, found)
    return found


def _drop_boxes_of_voc(source: SourceFolder, found: dict[str, Candidate]) -> None:
    """Leaves only the masks of VOC where its XML files have no outlines."""
    if 'voc' in found and not voc_xml.has_outlines(source):
        del found['voc']


def choose(
    source: SourceFolder, task: str, wanted: str = 'auto', table: str | None = None
) -> tuple[str, Candidate]:
    """Chooses the format to read.

    Args:
        source: The folder.
        task: One of :data:`TASKS`.
        wanted: A key of :data:`FORMATS`, or ``auto``. Default: ``auto``.
        table: Path of a table of mask colours in the folder. Default: None.

    Raises:
        UserError: If no format fits the task, several do, or the wanted one is not there.
    """
    found = recognise(source, task, table)
    seen = '; '.join(f'{name} ({candidate.evidence})' for name, candidate in found.items())
    if wanted != 'auto':
        if task not in FORMATS[wanted]:
            raise UserError(
                f'The format {wanted} has no annotations for {task}. It is for '
                f'{", ".join(FORMATS[wanted])}.'
            )
        if wanted not in found:
            raise UserError(
                f'{source.root} has no files in the format {wanted}. Found: {seen or "none"}.'
            )
        return wanted, found[wanted]
    fitting = {name: c for name, c in found.items() if task in FORMATS[name]}
    if len(fitting) > 1:
        names = list(fitting)
        raise UserError(
            f'{source.root} has annotations in {len(names)} formats: {seen}. Choose one with '
            + ' or '.join(f'--format {name}' for name in names)
            + '.'
        )
    if fitting:
        return next(iter(fitting.items()))
    if found:
        tasks = sorted({t for name in found for t in FORMATS[name]}, key=TASKS.index)
        raise UserError(
            f'{source.root} has no annotations for {task}. Found: {seen}. These are for '
            f'--task {", ".join(tasks)}.'
        )
    accepted = ', '.join(name for name, tasks in FORMATS.items() if task in tasks)
    raise UserError(
        f'No annotations for {task} were found in {source.root} ({len(source.files):,} files, '
        f'{len(source.images):,} images). {_hint(source, task)}Formats for this task: {accepted}. '
        'docs/datasets/import.md shows how the files of each have to lie.'
    )


def _hint(source: SourceFolder, task: str) -> str:
    """What the files may be instead, as a sentence; '' if nothing is known."""
    folders = class_folders.names(source)
    if task == 'classification' and len(folders) == 1:
        return f'There is one class folder, {folders[0]}/; a classifier needs two or more. '
    if task == 'segmentation' and (mask := mask_folders.jpeg_mask(source)):
        return f'{mask} may be a mask, but JPEG changes the values of pixels: masks must be PNG. '
    if task not in FORMATS['masks'] and mask_folders.recognises(source):
        return 'There are masks, which are for --task segmentation. '
    empty = [f for f in source.with_ending('.txt') if not (source.root / f).stat().st_size]
    if empty:
        return f'{len(empty):,} text files are empty, such as {empty[0]}. '
    if task != 'classification' and class_folders.recognises(source):
        return f'There are class folders, such as {folders[0]}/: --task classification reads them. '
    return ''


def _json_formats(source: SourceFolder) -> dict[str, list[str]]:
    """JSON files by format: ``coco``, ``datumaro`` or ``labelme``."""
    found: dict[str, list[str]] = {}
    for file in source.with_ending('.json'):
        keys = _json_keys(source, file)
        if '"shapes"' in keys:
            found.setdefault('labelme', []).append(file)
        elif '"items"' in keys and '"categories"' in keys:
            found.setdefault('datumaro', []).append(file)
        elif '"images"' in keys and _is_coco_data_set(source, file):
            found.setdefault('coco', []).append(file)
    return found


def _json_keys(source: SourceFolder, file: str) -> str:
    """The start and the end of a JSON file, which the names of its main keys are looked for in."""
    path = source.root / file
    size = path.stat().st_size
    with path.open('rb') as stream:
        content = stream.read(_SNIFFED_BYTES)
        if size > 2 * _SNIFFED_BYTES:
            stream.seek(size - _SNIFFED_BYTES)
        content += stream.read()
    return content.decode('utf-8', 'replace')


def _is_coco_data_set(source: SourceFolder, file: str) -> bool:
    """Whether it has images, annotations and categories; a list of predictions has not."""
    if (source.root / file).stat().st_size > 2 * _SNIFFED_BYTES:
        with (source.root / file).open('rb') as stream:
            return stream.read(100).lstrip().startswith(b'{')
    try:
        content = json.loads(source.read_text(file))
    except json.JSONDecodeError:
        return True  # read() reports where it is damaged
    return isinstance(content, dict) and {'images', 'annotations'} <= set(content)


def _is_cvat(source: SourceFolder, file: str) -> bool:
    with (source.root / file).open('rb') as stream:
        return b'<annotations' in stream.read(4096)


def _text_formats(source: SourceFolder) -> dict[str, str]:
    """``yolo`` and ``dota``, if there are files of them, with an example of each."""
    found: dict[str, str] = {}
    sniffed: dict[str, int] = {}
    for file in source.with_ending('.txt'):
        folder = parent(file)
        if len(found) == 2 or sniffed.get(folder, 0) >= _SNIFFED_FILES:
            continue
        with (source.root / file).open('rb') as stream:
            lines = stream.read(4096).decode('utf-8-sig', 'replace').splitlines()
        first = next((line for line in lines if line.strip()), None)
        if first is None:
            continue
        sniffed[folder] = sniffed.get(folder, 0) + 1
        if yolo.is_label_line(first):
            found.setdefault('yolo', file)
        elif dota.is_dota(first):
            found.setdefault('dota', file)
    if 'yolo' not in found:
        for file in source.with_ending('.yaml', '.yml'):
            if yolo.is_yolo_yaml(source, file):
                found['yolo'] = file
    return found

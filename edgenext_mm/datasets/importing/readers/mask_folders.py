"""Semantic masks: an index, palette or RGB image per photograph.

Masks lie in a folder of their own (``masks``, ``SegmentationClass``, ``train_labels``, ...) under
the names of the images, or beside the images as ``NAME_mask.png``, as Roboflow writes them. What
the pixels mean is read from ``class_dict.csv``, ``labelmap.txt`` (CVAT), ``label_colors.txt``
(CamVid), ``dataset_meta.json`` (Datumaro), ``_classes.csv`` (Roboflow), ``class_names.txt``
(LabelMe) or ``classes.txt``.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import defaultdict

from ....errors import UserError
from ..records import Annotations, ImageRecord, MaskLegend
from ..source import SourceFolder, parent, split_of, stem
from .image_sets import find_listed, read_lists

_FOLDER = re.compile(
    r'^((semantic_?)?(masks?|labels?|annotations?|annot|gt(fine)?|ann_dir|labelids)|segmentationclass'
    r'(raw|aug)?|.*(_labels?|_masks?|annot|_annotations?|_gt))(_?png)?$',
    re.IGNORECASE,
)
#: Folders of instance masks and of drawings for the eye, beside those of VOC's class masks.
_OTHER_FOLDER = re.compile(r'^(segmentationobject.*|.*visualization)$', re.IGNORECASE)
_ENDINGS = re.compile(r'(_mask|_masks|_label|_labels|_gt|_L|_seg|_labelIds|_gtFine_labelIds)$')
_VOID = {'void', 'ignore', '__ignore__', 'ignored', 'unlabeled', 'unlabelled'}
_TABLES = (
    'class_dict.csv',
    'labelmap.txt',
    'label_colors.txt',
    'colors.txt',
    'colormap.txt',
    'label_colors.json',
    'colors.json',
    'dataset_meta.json',
    '_classes.csv',
    'classes.txt',
    'class_names.txt',
    'labels.txt',
)


def _is_mask(path: str) -> bool:
    return path.lower().endswith(('.png', '.bmp', '.tif', '.tiff')) and _named_as_mask(path)


def jpeg_mask(source: SourceFolder) -> str | None:
    """A JPEG file that lies where masks lie; None if there is none."""
    files = (path for path in source.images if path.lower().endswith(('.jpg', '.jpeg')))
    return next(filter(_named_as_mask, files), None)


def _named_as_mask(path: str) -> bool:
    return any(_FOLDER.match(part) for part in path.split('/')[:-1]) or bool(
        re.search(r'_masks?$', stem(path))
    )


def _is_photograph(path: str) -> bool:
    folders = path.split('/')[:-1]
    return not _is_mask(path) and not any(_OTHER_FOLDER.match(part) for part in folders)


def pairs(source: SourceFolder) -> dict[str, list[str]]:
    """Masks and the images that they may belong to."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    masks = [path for path in source.images if _is_mask(path)]
    for path in source.images:
        if _is_photograph(path):
            by_stem[stem(path)].append(path)
    found = {}
    for mask in masks:
        name = stem(mask)
        candidates = by_stem.get(name) or by_stem.get(_ENDINGS.sub('', name)) or []
        found[mask] = candidates
    return found


def recognises(source: SourceFolder) -> bool:
    """Whether at least one mask has an image."""
    return any(pairs(source).values())


def read_legend(source: SourceFolder, file: str) -> MaskLegend:
    """Reads a table of colours, of pixel values or of names.

    Args:
        source: The folder.
        file: Path in it. CSV with ``name, r, g, b`` or ``Pixel Value, Class``; text with
            ``name:r,g,b::``, ``r g b name`` or a name per line; JSON with ``{name: [r, g, b]}``
            or Datumaro's ``label_map`` and ``segmentation_colors``.

    Raises:
        UserError: If it is none of these.
    """
    text = source.read_text(file)
    entries: list[tuple[object, str]] = []
    if file.lower().endswith('.json'):
        entries = _json_entries(json.loads(text))
    elif file.lower().endswith('.csv'):
        entries = _csv_entries(text)
    else:
        lines = [line.strip() for line in text.splitlines()]
        for line in (line for line in lines if line and line[0] != '#'):
            if match := re.match(r'^([^:]+):(\d+),\s*(\d+),\s*(\d+)', line):
                entries.append((tuple(int(n) for n in match.groups()[1:]), match[1].strip()))
            elif match := re.match(r'^(\d+)[\s,]+(\d+)[\s,]+(\d+)[\s,]+(.+)$', line):
                entries.append((tuple(int(n) for n in match.groups()[:3]), match[4].strip()))
            else:
                entries.append((len(entries), line))
    if not entries or len({isinstance(key, tuple) for key, _ in entries}) != 1:
        raise UserError(
            f'{source.root / file} is not a table of colours. Accepted are CSV with the columns '
            'name, r, g, b; lines such as "road:128,64,128::" or "128 64 128 road"; JSON with '
            '{"road": [128, 64, 128]}.'
        )
    legend = MaskLegend(entries=[key for key, _ in entries])
    for key, name in entries:
        if name.lower() in _VOID:
            legend.void.add(key)
        else:
            legend.names[key] = name
    return legend


def _json_entries(content: dict) -> list[tuple[object, str]]:
    if 'label_map' not in content:
        return [(tuple(colour), str(name)) for name, colour in content.items()]
    names, colours = content['label_map'], content.get('segmentation_colors')
    keys = map(tuple, colours) if colours else map(int, names)
    return [(key, str(name)) for key, name in zip(keys, names.values(), strict=True)]


def _csv_entries(text: str) -> list[tuple[object, str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    header = [cell.lower() for cell in rows[0]] if rows else []
    if 'pixel value' in header:
        return [(int(row[0]), row[1]) for row in rows[1:]]
    colour = next(
        (c for c in (('r', 'g', 'b'), ('red', 'green', 'blue')) if set(c) <= set(header)), None
    )
    if colour is None:
        return []
    at = [header.index(name) for name in colour]
    name_at = next(i for i in range(len(header)) if i not in at)
    return [(tuple(int(row[i]) for i in at), row[name_at]) for row in rows[1:]]


def read(source: SourceFolder, table: str | None = None) -> Annotations:
    """Reads pairs of images and masks; images without a mask are left out.

    Args:
        source: The folder.
        table: Path of a table of colours in the folder. Default: None, the first file that is
            known by its name.
    """
    result = Annotations()
    by_name = {file.rpartition('/')[2].lower(): file for file in reversed(source.files)}
    table = table or next((by_name[name] for name in _TABLES if name in by_name), None)
    result.legend = read_legend(source, table) if table else MaskLegend()
    if result.legend.void:
        names = ', '.join(str(value) for value in sorted(result.legend.void))
        result.report(
            'note', 'ignored in training, as the table of classes says', table or '', names
        )
    splits = read_lists(source, 'segmentation')
    used = set()
    for mask, candidates in pairs(source).items():
        nearest = _nearest(mask, candidates)
        if nearest is None:
            detail = f'{len(candidates)} images fit' if candidates else 'no image fits'
            result.report('left out', 'mask without an image', mask, detail)
            continue
        if nearest in used:
            result.report('left out', 'second mask of an image', mask, nearest)
            continue
        used.add(nearest)
        name = find_listed(splits, nearest)
        if splits and name is None:
            result.report('left out', 'not in the lists of ImageSets', nearest)
            continue
        listed = splits[name] if name else None
        split = listed or split_of(nearest) or _split_in_name(nearest)
        result.images.append(ImageRecord(nearest, mask, split, mask=mask))
    for image in source.images:
        if image not in used and _is_photograph(image):
            result.report('left out', 'image without a mask', image)
    return result


def _nearest(mask: str, candidates: list[str]) -> str | None:
    """The image whose folders agree best with those of the mask."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    folders = parent(mask).split('/')

    def shared(image: str) -> tuple[bool, int]:
        own = parent(image).split('/')
        return split_of(image) == split_of(mask), len(set(own) & set(folders))

    ordered = sorted(candidates, key=shared)
    return None if shared(ordered[-1]) == shared(ordered[-2]) else ordered[-1]


def _split_in_name(path: str) -> str | None:
    """Split of a folder such as ``train_images``."""
    for folder in parent(path).split('/'):
        if split := split_of(f'{re.split(r"[_-]", folder)[0]}/'):
            return split
    return None

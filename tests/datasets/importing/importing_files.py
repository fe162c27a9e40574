"""Source folders for the tests, written from texts, and what was made of them."""

import json

import numpy as np
from PIL import Image

from edgenext_mm.datasets.importing import import_data


def write_tree(root, files):
    """Writes texts, JSON (dicts), arrays, and images given by their (width, height)."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new('RGB', content, (90, 120, 30)).save(path)
        elif isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def import_tree(tmp_path, files, task, **options):
    """Imports files and returns the summary and the folder that was written."""
    source = write_tree(tmp_path / 'source', files)
    return import_data(source, task, tmp_path / 'out', **options), tmp_path / 'out'


def coco_objects(out, *splits):
    """For each image: (class, box, segmentation) of its objects, in the file's order."""
    found = {}
    for split in splits or ('train', 'val'):
        content = json.loads((out / 'annotations' / f'{split}.json').read_text())
        names = {c['id']: c['name'] for c in content['categories']}
        images = {i['id']: i['file_name'] for i in content['images']}
        found.update({name: [] for name in images.values()})
        for entry in content['annotations']:
            found[images[entry['image_id']]].append(
                (names[entry['category_id']], entry['bbox'], entry.get('segmentation'))
            )
    return found


def dota_objects(out):
    """For each image: (class, eight coordinates, difficulty) of its objects."""
    found = {}
    for file in out.glob('*/labelTxt/*.txt'):
        words = [line.split() for line in file.read_text().splitlines()]
        found[file.stem] = [(w[8], [float(v) for v in w[:8]], int(w[9])) for w in words]
    return found


def kinds(summary):
    """Number of findings by (action, kind)."""
    counts = {}
    for finding in summary.findings:
        key = (finding.action, finding.kind)
        counts[key] = counts.get(key, 0) + 1
    return counts

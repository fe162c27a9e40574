"""What a user of the dense tasks does, with one class and awkward data, on two processes.

Two processes cannot share the five scenes of validation evenly. Scene 0 has no object, an object of
scene 1 is a single pixel, scene 2 is of another size.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from running import run_distributed, run_in_process

from edgenext_mm.datasets import SceneSettings, write_digit_scenes

DETECTION = """
files = dict(data_root='{root}/', metainfo=dict(classes=('digit',)))
train_files = dict(filter_cfg=dict(_delete_=True, filter_empty_gt=False), **files)
# Weights of one epoch find little, which must be seen all the same.
model = dict(bbox_head=dict(num_classes=1), test_cfg=dict(score_thr=0.0001))
"""
COCO = """
val_evaluator = dict(ann_file='{root}/annotations/val.json')
test_evaluator = val_evaluator
"""
SEGMENTATION = """
classes, palette = ('background', 'digit'), [[0, 0, 0], [255, 0, 0]]
files = dict(data_root='{root}', metainfo=dict(classes=classes, palette=palette))
train_files = files
model = dict(decode_head=dict(num_classes=2, loss_decode=dict(class_weight=[0.1, 1.0])))
"""
COMMON = """
model['backbone'] = dict(init_cfg=None)
train_dataloader = dict(batch_size=2, dataset=train_files)
val_dataloader = dict(dataset=files)
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=1)
"""
TASKS = {
    'ssdlite': ('detection/ssdlite_edgenext-xxsmall_digits.py', DETECTION + COCO),
    'deeplabv3': ('segmentation/deeplabv3_edgenext-xxsmall_digits.py', SEGMENTATION),
    'rotated': (
        'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py',
        DETECTION.replace('dict(_delete_=True, filter_empty_gt=False)', 'dict()'),
    ),
}


@pytest.fixture(scope='session')
def awkward_root(tmp_path_factory):
    root = tmp_path_factory.mktemp('data') / 'awkward'
    write_digit_scenes(root, SceneSettings(num_train=8, num_val=5))
    for split in ('train', 'val'):
        path = root / 'annotations' / f'{split}.json'
        coco = json.loads(path.read_text())
        coco['categories'] = [dict(id=1, name='digit')]
        coco['annotations'] = [
            dict(annotation, category_id=1)
            for annotation in coco['annotations']
            if annotation['image_id'] != 0
        ]
        tiny = next(a for a in coco['annotations'] if a['image_id'] == 1)
        tiny.update(bbox=[5, 5, 1, 1], area=1, segmentation=[[5, 5, 6, 5, 6, 6, 5, 6]])
        coco['images'][2]['width'] = 160
        path.write_text(json.dumps(coco))

        for labels in (root / split / 'labelTxt').iterdir():
            lines = [line.split() for line in labels.read_text().splitlines()]
            labels.write_text('\n'.join(' '.join([*line[:8], 'digit 0']) for line in lines))
        (root / split / 'labelTxt' / '0000.txt').write_text('')
        with (root / split / 'labelTxt' / '0001.txt').open('a') as labels:
            labels.write('\n5 5 6 5 6 6 5 6 digit 0')

        for path in (root / split / 'masks').iterdir():
            mask = (np.asarray(Image.open(path)) > 0).astype(np.uint8)
            if path.stem == '0000':
                mask[:] = 0
            elif path.stem == '0001':
                mask[5, 5] = 1
            elif path.stem == '0002':
                mask = np.pad(mask, ((0, 0), (0, 32)), constant_values=255)
            Image.fromarray(mask).save(path)
        path = root / split / 'images' / '0002.png'
        image = np.pad(np.asarray(Image.open(path)), ((0, 0), (0, 32), (0, 0)))
        Image.fromarray(image).save(path)
    return root


@pytest.fixture(scope='module', params=TASKS)
def trained(request, awkward_root, tmp_path_factory):
    """Task, config and work folder of an epoch with two processes."""
    base, text = TASKS[request.param]
    work = tmp_path_factory.mktemp(request.param)
    config = work / 'mine.py'
    text = f"_base_ = '{ROOT}/configs/{base}'\n" + text.format(root=awkward_root) + COMMON
    config.write_text(text)
    run_distributed('dist_train.sh', config, '2', '--work-dir', work)
    return request.param, config, work


def test_two_processes_train_and_test_as_one_does(trained):
    _, config, work = trained
    assert (work / 'epoch_1.pth').is_file()
    logs = [path.read_text().splitlines() for path in work.glob('*/vis_data/scalars.json')]
    losses = [r['loss'] for log in logs for r in map(json.loads, log) if 'loss' in r]
    assert losses
    assert np.isfinite(losses).all()

    arguments = [config, work / 'epoch_1.pth']
    one, two = work / 'one.json', work / 'two.json'
    run_in_process('test.py', *arguments, '--work-dir', work / 'test', '--out', one)
    more = ['--work-dir', work / 'test', '--out', two]
    run_distributed('dist_test.sh', *arguments, '2', *more)
    assert json.loads(one.read_text()) == json.loads(two.read_text())
    assert json.loads(one.read_text())


def test_inference_and_pictures(trained, awkward_root, tmp_path):
    task, config, work = trained
    result = run_in_process(
        'infer.py', config, awkward_root / 'val' / 'images', '--checkpoint', work / 'epoch_1.pth',
        '--json', '--score-thr', '0.0001', '--out', tmp_path,
    )  # fmt: skip
    results = json.loads(result.stdout)
    assert [Path(result['image']).name for result in results] == [f'000{i}.png' for i in range(5)]
    assert Image.open(tmp_path / 'predictions.png').width > 500
    assert {path.stem for path in (tmp_path / 'predictions').iterdir()} == {
        f'000{i}' for i in range(5)
    }
    for result, width in zip(results, (128, 128, 160, 128, 128), strict=True):
        if task == 'deeplabv3':
            assert all(runs['size'] == [128, width] for runs in result['sem_seg'].values())
            assert sum(map(sum_of_ones, result['sem_seg'].values())) == 128 * width
        else:
            length = 5 if task == 'rotated' else 4
            assert all(len(box) == length for box in result['bboxes'])
            assert len(result['bboxes']) == len(result['scores']) == len(result['labels']) > 0
            assert result['scores'] == sorted(result['scores'], reverse=True)
            assert set(result['classes']) == {'digit'}


def sum_of_ones(run_lengths):
    return sum(run_lengths['counts'][1::2])


def test_the_data_set_can_be_browsed(trained, tmp_path):
    _, config, _ = trained
    run_in_process('browse_dataset.py', config, '--split', 'val', '--out', tmp_path)
    assert Image.open(tmp_path / 'val.png').width > 500
    assert len(list((tmp_path / 'val').iterdir())) == 5

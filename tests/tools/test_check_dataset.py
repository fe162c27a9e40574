"""tools/check_dataset.py on intact, missing and broken data."""

import json
import shutil

from paths import DIGITS_CONFIG, ROOT


def roots(folder):
    return [f'{split}_dataloader.dataset.data_root={folder}' for split in ('train', 'val', 'test')]


def test_it_counts_what_is_there(few_digits, call_tool):
    done = call_tool('check_dataset.py', DIGITS_CONFIG, '--cfg-options', *roots(few_digits))
    assert 'ok       train: 40 images, 10 classes, 0 errors, 0 warnings\n' in done.stdout
    assert 'ok       val: 20 images, 10 classes, 0 errors, 0 warnings\n' in done.stdout
    assert 'per class: 0 4, 1 4,' in done.stdout
    assert '40/40' in done.stderr


def test_missing_data_is_reported_for_each_split(call_tool, tmp_path, monkeypatch):
    config = ROOT / 'configs/classification/edgenext-small_8xb256_in1k.py'
    monkeypatch.chdir(tmp_path)
    done = call_tool('check_dataset.py', config, status=1)
    for split in ('train', 'val', 'test'):
        assert f'PROBLEM  {split}: ' in done.stdout
    assert 'data/imagenet' in done.stdout
    assert str(tmp_path) in done.stdout
    assert 'docs/datasets/imagenet.md' in done.stdout


def test_it_finds_what_does_not_fit(few_digits, call_tool):
    done = call_tool(
        'check_dataset.py', DIGITS_CONFIG, '--splits', 'val', '--quick',
        '--cfg-options', *roots(few_digits), 'model.head.num_classes=9', status=1,
    )  # fmt: skip
    assert 'model.head is for 9 classes, but the data has 10' in done.stdout


def test_one_json_document(scenes_root, call_tool, tmp_path):
    shutil.copytree(scenes_root, tmp_path / 'scenes')
    broken = tmp_path / 'scenes' / 'train' / 'images' / '0003.png'
    broken.write_bytes(broken.read_bytes()[:-9])
    config = ROOT / 'configs/detection/ssdlite_edgenext-xxsmall_digits.py'
    done = call_tool(
        'check_dataset.py', config, '--json', '--workers', 2, '--splits', 'train', 'val',
        '--cfg-options', *roots(f'{tmp_path}/scenes/'), status=1,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert (document['train']['images'], document['val']['images']) == (8, 4)
    assert document['train']['errors'] == 1
    errors = [f for f in document['train']['findings'] if f['severity'] == 'error']
    assert [(f['file'], f['kind'], f['split']) for f in errors] == [
        (str(broken), 'truncated', 'train')
    ]
    annotations = json.loads((tmp_path / 'scenes/annotations/train.json').read_text())
    assert sum(document['train']['classes'].values()) == len(annotations['annotations'])

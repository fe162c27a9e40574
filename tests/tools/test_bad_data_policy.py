"""tools/train.py on data with broken files, by either policy."""

import json
import shutil

import pytest
from paths import DIGITS_CONFIG
from running import run_in_process


@pytest.fixture
def train(few_digits, tmp_path):
    """Trains an epoch on 40 digits, two of which are cut short."""
    root = tmp_path / 'data'
    shutil.copytree(few_digits, root)
    broken = [sorted((root / 'train' / name).iterdir())[0] for name in '37']
    for path in broken:
        path.write_bytes(path.read_bytes()[:-20])

    def run(*options):
        return broken, run_in_process(
            'train.py', DIGITS_CONFIG, '--work-dir', tmp_path / 'work', '--cfg-options',
            f'train_dataloader.dataset.data_root={root}',
            f'val_dataloader.dataset.data_root={root}',
            f'test_dataloader.dataset.data_root={root}',
            'train_cfg.max_epochs=1', 'train_dataloader.batch_size=8',
            'train_dataloader.num_workers=1', *options,
        )  # fmt: skip

    return run


def test_training_stops_with_the_name_of_the_file(train, tmp_path):
    broken, result = train()
    last = result.error.strip().splitlines()[-1]
    assert last.startswith('error: ')
    assert any(f'{path} is cut short' in last for path in broken)
    assert not list(tmp_path.glob('work/*.pth'))
    (path,) = tmp_path.glob('work/*/run.json')
    reason = json.loads(path.read_text())['reason']
    assert any('in DataLoader worker process 0' in line for line in reason['traceback'])


def test_training_skips_and_lists(train, tmp_path):
    broken, result = train('bad_data.policy=skip', 'bad_data.max_fraction=0.1')
    assert not result.error
    (path,) = tmp_path.glob('work/*/bad_samples.jsonl')
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(entry['file'] for entry in entries) == sorted(map(str, broken))
    (log,) = tmp_path.glob('work/*/*.log')
    for file in broken:
        assert log.read_text().count(f'Skipped a bad sample: {file} is cut short') == 1
    assert f'2 bad samples were skipped in this training; {path} lists them.' in log.read_text()
    assert (tmp_path / 'work' / 'epoch_1.pth').exists()

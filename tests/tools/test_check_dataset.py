"""tools/check_dataset.py: on data that is there, and on data that is not."""

from conftest import DIGITS_CONFIG, ROOT


def roots(folder):
    return [f'{split}_dataloader.dataset.data_root={folder}' for split in ('train', 'val', 'test')]


def test_it_counts_what_is_there(few_digits, run_tool):
    done = run_tool('check_dataset.py', DIGITS_CONFIG, '--cfg-options', *roots(few_digits))
    assert f'ok       train: 40 images, 10 classes, in {few_digits}\n' in done.stdout
    assert f'ok       val: 20 images, 10 classes, in {few_digits}\n' in done.stdout


def test_it_says_of_every_split_what_is_missing_and_where_it_looked(run_tool, tmp_path):
    config = ROOT / 'configs/classification/edgenext-small_8xb256_in1k.py'
    done = run_tool('check_dataset.py', config, status=1, cwd=tmp_path)
    lines = [line for line in done.stdout.splitlines() if line.startswith(('ok', 'PROBLEM'))]
    assert [line.split(':')[0] for line in lines] == [
        'PROBLEM  train', 'PROBLEM  val', 'PROBLEM  test'
    ]  # fmt: skip
    assert 'data/imagenet' in lines[0]
    assert str(tmp_path) in lines[0]
    assert 'docs/datasets/imagenet.md' in lines[0]


def test_it_finds_what_does_not_fit(few_digits, run_tool):
    done = run_tool(
        'check_dataset.py', DIGITS_CONFIG, '--splits', 'val',
        '--cfg-options', *roots(few_digits), 'model.head.num_classes=9', status=1,
    )  # fmt: skip
    assert 'model.head is for 9 classes, but the data has 10' in done.stdout

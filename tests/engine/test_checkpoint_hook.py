"""Checkpoints on a full disk, and files of killed runs."""

import contextlib
import resource
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook

from edgenext_mm.checkpoints.latest import check_resumable, find_latest
from edgenext_mm.engine.hooks import WholeCheckpointHook
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError


@pytest.fixture
def make_runner(digits_training):
    """Builds a training of four epochs of two steps in a folder."""

    def make(work_dir, val_interval=4, max_epochs=4, **options):
        config = digits_training(20, max_epochs)
        config.train_cfg.val_interval = val_interval
        config.work_dir, config.experiment_name = str(work_dir), str(work_dir)
        config.default_hooks.logger.interval = 1
        config.default_hooks.checkpoint.update(options)
        return build_runner(config)

    return make


def test_the_best_checkpoint_of_another_folder_stays(tmp_path, make_runner):
    class Better(Hook):
        priority = 'HIGH'

        def after_val_epoch(self, runner, metrics=None):
            metrics['progress'] = runner.iter

    options = dict(val_interval=1, save_best='progress', rule='greater', interval=1)
    for name, max_epochs in (('first', 2), ('second', 4)):
        runner = make_runner(tmp_path / name, max_epochs=max_epochs, **options)
        runner.register_hook(Better())
        if name == 'second':
            runner._resume, runner._load_from = True, str(tmp_path / 'first' / 'epoch_2.pth')
        runner.train()
    (best,) = (tmp_path / 'first').glob('best_*')
    assert best.name == 'best_progress_epoch_2.pth'
    assert [p.name for p in (tmp_path / 'second').glob('best_*')] == ['best_progress_epoch_4.pth']


class At(Hook):
    """Does something after an epoch, before it is saved."""

    priority = 'HIGH'

    def __init__(self, **actions):
        self.actions = actions

    def after_train_epoch(self, runner):
        self.actions.get(f'epoch_{runner.epoch + 1}', lambda: None)()


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 64 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip('no rights to mount')
    yield folder
    subprocess.run(['umount', '-l', folder], check=True)


def test_a_full_disk_does_not_end_the_training(small_disk, make_runner):
    work, filler = small_disk / 'work', small_disk / 'filler'
    logged = []

    def fill():
        with contextlib.suppress(OSError), filler.open('wb') as file:
            while True:
                file.write(bytes(2**16))
                file.flush()

    def look():
        logged.extend((sorted(p.name for p in work.glob('*.pth')), find_latest(work)))
        assert not list(work.glob('.*'))
        filler.unlink()

    runner = make_runner(work, max_keep_ckpts=1, save_best=None)
    errors = []
    runner.logger.error = errors.append
    runner.register_hook(At(epoch_2=fill, epoch_4=look))
    runner.train()
    assert logged == [['epoch_1.pth'], str(work / 'epoch_1.pth')]
    saves = [error for error in errors if 'No checkpoint was saved' in error]
    assert len(saves) == 2
    assert 'No space left on device' in saves[0]
    assert f'the last checkpoint is {work}/epoch_1.pth' in saves[0]
    assert [p.name for p in work.glob('*.pth')] == ['epoch_4.pth']
    assert (work / 'last_checkpoint').read_text() == str(work / 'epoch_4.pth')


def test_old_files_stay_if_new_ones_cannot_be_written(make_runner, tmp_path):
    """Each score is the best so far. The second and third epochs cannot be saved."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    left = []

    def look():
        left.extend(sorted(path.name for path in tmp_path.glob('*.pth')))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    runner = make_runner(tmp_path, val_interval=1, max_keep_ckpts=1)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # noqa: E731
    runner.register_hook(At(epoch_2=limit, epoch_4=look))
    runner.val_loop.evaluator.evaluate = lambda size: {'accuracy/top1': float(runner.epoch)}
    try:
        runner.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert left == ['best_accuracy_top1_epoch_1.pth', 'epoch_1.pth']
    assert sorted(path.name for path in tmp_path.glob('*.pth')) == [
        'best_accuracy_top1_epoch_4.pth',
        'epoch_4.pth',
    ]
    content = torch.load(tmp_path / 'epoch_4.pth', weights_only=False)
    info = content['message_hub']['runtime_info']
    assert info['best_score'] == 4
    assert info['best_ckpt'] == str(tmp_path / 'best_accuracy_top1_epoch_4.pth')
    assert info['keep_ckpt_ids'] == [4]


def test_incomplete_files_of_a_killed_run_are_removed(tmp_path, make_runner):
    (tmp_path / '.epoch_3-abcd1234.pth').write_bytes(b'incomplete')
    (tmp_path / 'mine-12345678.pth').write_bytes(b'kept')
    runner = make_runner(tmp_path)
    hook = next(h for h in runner.hooks if isinstance(h, WholeCheckpointHook))
    hook.before_train(runner)
    assert [p.name for p in tmp_path.glob('*.pth')] == ['mine-12345678.pth']


def test_a_work_folder_that_cannot_be_written_to_is_an_error(tmp_path, make_runner):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'The work folder .* is not writable .*--work-dir'):
        make_runner(tmp_path / 'file' / 'work')


def test_values_that_cannot_be_written_do_not_end_the_training(tmp_path, make_runner):
    runner = make_runner(tmp_path)
    errors = []
    runner.logger.error = errors.append
    scalars = Path(runner.log_dir, 'vis_data', 'scalars.json')
    runner.register_hook(At(epoch_2=lambda: (scalars.unlink(), scalars.mkdir())))
    runner.train()
    assert (tmp_path / 'epoch_4.pth').is_file()
    assert all('Could not write logged values: ' in error for error in errors)
    assert len(errors) == 5  # four steps and a validation


@pytest.fixture
def checkpoints(tmp_path):
    """Three checkpoints, a best one, and ``last_checkpoint``."""
    for epoch in (3, 2, 1):
        content = dict(meta=dict(iter=epoch), optimizer={}, x=torch.rand(1000))
        torch.save(content, tmp_path / f'epoch_{epoch}.pth')
    torch.save(dict(meta=dict(iter=3)), tmp_path / 'best_accuracy_top1_epoch_3.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_3.pth'))
    return tmp_path


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    """Changes a bit of the largest tensor."""
    with zipfile.ZipFile(path) as archive:
        payload = archive.read(max(archive.infolist(), key=lambda entry: entry.file_size))
    content = bytearray(path.read_bytes())
    content[content.index(payload) + len(payload) // 2] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b'')


@pytest.mark.parametrize('damage', [cut, flip, empty, lambda path: path.unlink()])
def test_the_latest_complete_checkpoint_is_found(checkpoints, damage):
    assert find_latest(checkpoints) == str(checkpoints / 'epoch_3.pth')
    damage(checkpoints / 'epoch_3.pth')
    assert find_latest(checkpoints) == str(checkpoints / 'epoch_2.pth')
    cut(checkpoints / 'epoch_2.pth')
    assert find_latest(checkpoints) == str(checkpoints / 'epoch_1.pth')


def test_last_checkpoint_may_be_empty_or_missing(checkpoints):
    for damage in (lambda note: note.write_text(''), lambda note: note.unlink()):
        damage(checkpoints / 'last_checkpoint')
        assert find_latest(checkpoints) == str(checkpoints / 'epoch_3.pth')


def test_a_moved_folder_is_searched(checkpoints, tmp_path_factory):
    moved = tmp_path_factory.mktemp('moved') / 'work'
    checkpoints.rename(moved)
    assert find_latest(moved) == str(moved / 'epoch_3.pth')


def test_damaged_checkpoints_are_an_error_if_no_other_is_left(checkpoints):
    for epoch in (1, 2, 3):
        cut(checkpoints / f'epoch_{epoch}.pth')
    with pytest.raises(UserError, match=r'epoch_3\.pth is cut short .* No complete checkpoint'):
        find_latest(checkpoints)


def test_a_new_folder_has_none(tmp_path):
    assert find_latest(tmp_path) is None
    # A training that was killed while it wrote its first checkpoint.
    (tmp_path / '.iter_2-x1.pth').write_bytes(b'PK')
    assert find_latest(tmp_path) is None


def test_other_files_are_not_resumed(checkpoints):
    """The loss watch writes a file with weights and an optimizer, but without progress."""
    content = torch.load(checkpoints / 'epoch_3.pth')
    (checkpoints / 'last_checkpoint').unlink()
    torch.save(dict(iter=9, state_dict={}, optimizer={}), checkpoints / 'non_finite_iter_9.pth')
    torch.save(dict(content, meta={}), checkpoints / 'mine_2026.pth')
    assert find_latest(checkpoints) == str(checkpoints / 'epoch_3.pth')
    (checkpoints / 'epoch_3.pth').rename(checkpoints / 'birds.v3.pth')  # a `filename_tmpl`
    assert find_latest(checkpoints) == str(checkpoints / 'birds.v3.pth')
    for path in checkpoints.glob('*[!9].pth'):
        if not path.name.startswith('mine'):
            path.unlink()
    assert find_latest(checkpoints) is None
    with pytest.raises(UserError, match=r'cannot resume from .*non_finite_iter_9\.pth'):
        check_resumable(checkpoints / 'non_finite_iter_9.pth')

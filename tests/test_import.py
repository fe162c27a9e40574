"""Importing the package, and training with it, changes nothing of other libraries."""

import subprocess
import sys

from paths import DIGITS_CONFIG

import edgenext_mm

PROGRAM = '''
import os
import signal
import sys

import mmcv.ops, mmcv.transforms, mmdet.apis, mmengine.runner, mmpretrain, mmrotate, mmseg.apis
import torch.utils.data
from mmengine.hooks import Hook

LIBRARIES = {'mmcv', 'mmdet', 'mmengine', 'mmpretrain', 'mmrotate', 'mmseg', 'torch'}


def snapshot():
    """Functions and classes of the libraries, and their methods; signal handlers, environment."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition('.')[0] in LIBRARIES and not isinstance(module, str):
            for key, value in list(vars(module).items()):
                if callable(value):
                    found[name, key] = value
                if isinstance(value, type) and value.__module__.partition('.')[0] in LIBRARIES:
                    for method, function in list(vars(value).items()):
                        if callable(function) or isinstance(function, (classmethod, staticmethod)):
                            found[name, key, method] = function
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    return found, handlers, dict(os.environ)


def check(when):
    found, handlers, environment = snapshot()
    changed = [key for key, value in before[0].items() if found.get(key) is not value]
    assert not changed, (when, changed)
    assert handlers == before[1], when
    return environment


class Fails(Hook):
    def after_train_iter(self, runner, **kwargs):
        raise ValueError('on purpose')


before = snapshot()
import edgenext_mm
from edgenext_mm import apis, checkpoints, datasets, deployment, engine, models, visualization
from edgenext_mm.config import load_config
from edgenext_mm.engine import Runner

assert check('import') == before[2]
for custom_hooks in ([], [Fails()]):
    config = load_config(sys.argv[1])
    for name in ('train', 'val'):
        loader = config[f'{name}_dataloader']
        loader.update(batch_size=20, num_workers=0, persistent_workers=False)
        loader.dataset.data_root = sys.argv[2]
    config.train_cfg.update(max_epochs=1, val_interval=1)
    config.work_dir = sys.argv[3]
    config.experiment_name = f'run {len(custom_hooks)}'
    runner = Runner.from_cfg(config)
    for hook in custom_hooks:
        runner.register_hook(hook)
    try:
        runner.train()
        assert not custom_hooks
    except ValueError:
        assert custom_hooks
    check(f'training with {custom_hooks}')
print(len(before[0]), 'compared')
'''


def test_functions_and_signal_handlers_of_other_libraries_stay(few_digits, tmp_path):
    command = [sys.executable, '-c', PROGRAM, DIGITS_CONFIG, few_digits, tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1].split()[0]) > 20_000


def test_the_package_imports_without_pytorch():
    code = "import edgenext_mm, edgenext_mm.runtime, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == 'False\n'


def test_every_public_name_is_there():
    names = set(edgenext_mm.__all__)
    assert names == {*edgenext_mm._MODULES, 'UserError', '__version__'}
    assert all(getattr(edgenext_mm, name) is not None for name in names)

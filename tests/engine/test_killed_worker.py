"""A data loading process that the kernel kills, as it does where memory runs out."""

import os
import signal

import pytest
from paths import DIGITS_CONFIG

from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.run_log import logged_end
from edgenext_mm.apis.run_report import examine_run
from edgenext_mm.apis.runner import build_runner
from edgenext_mm.registry import TRANSFORMS


@TRANSFORMS.register_module()
class KillOnce:
    """Ends the process that loads, as the kernel does, unless a file says that it has."""

    def __init__(self, mark):
        self.mark = mark

    def __call__(self, results):
        if results['sample_idx'] == 30 and not os.path.exists(self.mark):
            open(self.mark, 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
        return results


def test_the_run_ends_with_its_name_and_the_doctor_knows_why(few_digits, tmp_path):
    config = load_config(DIGITS_CONFIG)
    config.work_dir, config.experiment_name = str(tmp_path / 'work'), 'killed-worker'
    config.custom_imports.imports.append(__name__)
    config.train_dataloader.update(batch_size=8, num_workers=1)
    config.train_dataloader.dataset.data_root = str(few_digits)
    config.train_dataloader.dataset.pipeline.insert(
        1, dict(type='edgenext_mm.KillOnce', mark=str(tmp_path / 'mark'))
    )
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.default_hooks.checkpoint.update(save_best=None)
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    runner = build_runner(config)
    with pytest.raises(RuntimeError, match='worker'), logged_end(runner):
        runner.train()
    finished, findings = examine_run(tmp_path / 'work')
    assert not finished
    run = next(finding for finding in findings if finding.name == 'run')
    assert 'a data loading process was killed' in run.mend
    assert run.state.startswith('stopped before the first logged iteration')

import pytest
from paths import ROOT

from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.model import build_model
from edgenext_mm.apis.testing import run_test

FOLDER = ROOT / 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py'


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_model_is_tested_as_it_is(num_workers, few_digits, tmp_path):
    """What a training would start from or resume is not loaded into it."""
    loader = dict(num_workers=num_workers, batch_size=10, dataset=dict(data_root=str(few_digits)))
    config = load_config(
        FOLDER, dict(test_dataloader=loader, model=dict(head=dict(num_classes=10)))
    )
    config.work_dir, config.experiment_name = str(tmp_path), f'testing_{num_workers}'
    config.load_from, config.resume = 'edgenext-xxsmall_3rdparty_in1k', True
    model = build_model(config)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    metrics = run_test(config, model)
    assert 0 <= metrics['accuracy/top1'] <= 100
    assert all((v == before[k]).all() for k, v in model.state_dict().items())

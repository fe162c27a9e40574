import pytest
import torch
from paths import ROOT

from edgenext_mm.apis.testing import run_test
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model

FOLDER = ROOT / 'configs/classification/edgenext-xxsmall_1xb64-30e_folder.py'


@pytest.mark.parametrize('num_workers', [0, 1])
def test_a_model_is_tested_with_its_own_weights(num_workers, few_digits, tmp_path):
    """Weights that a training would start from or resume are not loaded."""
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


@pytest.mark.parametrize('as_model', [False, True])
def test_classes_in_another_order_than_in_training_are_refused(as_model, few_digits, tmp_path):
    loader = dict(num_workers=0, batch_size=20, dataset=dict(data_root=str(few_digits)))
    options = dict(test_dataloader=loader, model=dict(head=dict(num_classes=10)))
    config = load_config(FOLDER, options)
    config.work_dir, config.experiment_name = str(tmp_path), f'order_{as_model}'
    model = build_model(config)
    names = tuple('0123456789')

    def run(classes):
        meta = dict(classes=classes)
        model.dataset_meta = meta
        content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta))
        torch.save(content, tmp_path / 'weights.pth')
        config.load_from = str(tmp_path / 'weights.pth')
        return run_test(config.copy(), model if as_model else None)

    expected = run(names)
    with pytest.raises(UserError, match=r"trained on the classes '9', '8'.* in another order"):
        run(names[::-1])
    config.checks = dict(classes=False)
    assert run(names[::-1]) == expected
    config.checks = None
    assert run(tuple('abcdefghij')) == expected
    logs = ''.join(path.read_text() for path in tmp_path.rglob('*.log'))
    assert "trained on the classes 'a', 'b'" in logs

"""The ImageNet configs against the paper's recipe."""

import pytest
from paths import ROOT

from benchmarks.compare_recipe import compare_recipe
from edgenext_mm.config import load_config

FOLDER = ROOT / 'configs' / 'classification'
PLAIN = sorted(p.stem for p in FOLDER.glob('*_8xb256_in1k*.py'))


def test_all_of_the_papers_trainings_are_there():
    sizes = ['base', 'small', 'small_bnhs', 'xsmall', 'xsmall_bnhs', 'xxsmall', 'xxsmall_bnhs']
    assert (
        sorted(
            [
                'edgenext-small_8xb256_in1k-224px',
                *(f'edgenext-{size}_8xb256_in1k' for size in sizes),
            ]
        )
        == PLAIN
    )


@pytest.mark.parametrize('name', PLAIN)
def test_every_field_is_the_recipes(name):
    fields = compare_recipe(load_config(FOLDER / f'{name}.py'))
    assert [f for f in fields if not f.agrees] == []
    assert len(fields) > 20


def test_small_in_figures():
    """The recipe's figures, typed here once more."""
    config = load_config(FOLDER / 'edgenext-small_8xb256_in1k.py')
    fields = {f.name: f.config for f in compare_recipe(config)}
    assert [fields[f'learning rate at epoch {e}'] for e in (0, 10, 20, 160, 299)] == [
        '0', '3.00e-03', '6.00e-03', '3.00e-03', '1.19e-06'
    ]  # fmt: skip
    assert fields['batches by crop size'] == '656, 456, 256, 256, 256'
    assert fields['effective batch (GPUs x images x accumulated steps)'] == '8 x 256 x 2 = 4096'
    assert fields['EMA'].startswith('decay 0.9995 per optimiser step')
    assert fields['AMP'] == 'yes'
    assert fields['gradient clipping'] == 'none'
    still = fields['parameters with weight decay 0']
    for name in ('backbone.stages.*.*.gamma (18)', 'backbone.stages.*.*.gamma_xca (3)'):
        assert name in still
    assert 'head.fc.bias (1)' in still
    assert 'temperature' not in still
    assert 'head.fc.weight (1)' in fields['parameters with weight decay 0.05']


def test_a_departure_is_seen():
    config = load_config(
        FOLDER / 'edgenext-small_8xb256_in1k.py',
        {'optim_wrapper.optimizer.lr': 1e-3, 'optim_wrapper.clip_grad': dict(max_norm=5)},
    )
    differing = {f.name for f in compare_recipe(config) if not f.agrees}
    assert {'learning rate', 'gradient clipping', 'learning rate at epoch 20'} <= differing


def test_the_command_prints_and_judges(run_benchmark):
    done = run_benchmark('compare_recipe', FOLDER / 'edgenext-small_8xb256_in1k.py')
    assert 'ok    learning rate at epoch 160: 3.00e-03' in done.stdout
    done = run_benchmark(
        'compare_recipe',
        FOLDER / 'edgenext-small_8xb256_in1k.py',
        '--cfg-options',
        'train_cfg.max_epochs=100',
        status=1,
    )
    assert 'DIFF  epochs: 100' in done.stdout

"""Other backbones in the recipes for custom data, and the table of results."""

import json

import pytest
import torch
from mmengine.registry import MODELS

from benchmarks import public_data, public_tables
from edgenext_mm.config import load_config
from edgenext_mm.models.building import build_model

CONFIGS = {
    'classification/edgenext-xxsmall_digits': (1, 10),
    'detection/ssdlite_edgenext-xxsmall_digits': None,
    'segmentation/segformer_edgenext-small_4xb16-50e_voc12aug-512x512': (1, 21, 16, 16),
}


@pytest.mark.parametrize('model', public_data.PEERS)
@pytest.mark.parametrize('name', CONFIGS)
def test_timms_backbones_fit_into_our_heads(name, model):
    config = load_config(f'configs/{name}.py')
    config.merge_from_dict(public_data.backbone_options(config, model))
    built = build_model(config).eval()
    assert type(built.backbone) is MODELS.get('mmpretrain.TIMMBackbone')
    with torch.no_grad():
        output = built(torch.zeros(1, 3, 64, 64), mode='tensor')
    if CONFIGS[name]:
        assert output.shape == CONFIGS[name]


def test_the_tables_have_mean_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(public_data, 'RECORDS', tmp_path)
    trainings = [
        ('bccd', 0, True, False, 0.81),
        ('bccd', 1, True, False, 0.84),
        ('bccd', 0, True, True, 0.8),
        ('sign_digits', 0, False, False, 97.43),
    ]
    for name, seed, short, recipe_anchors, value in trainings:
        run = public_data.Run(name, public_data.OURS, seed, short, recipe_anchors=recipe_anchors)
        record = dict(run._asdict(), metric=public_data.SETS[name].title, final=value)
        record |= dict(parameters=2_340_000, madds=512_000_000, latency_ms=20.0 + seed)
        record |= dict(image_size=[320, 256], images=8200, cpu_minutes=30.4, curve=[value] * 6)
        if not short:
            record |= {'report threshold': 0.382, 'report F1 at 0.3': 0.6}
            record |= {'report F1 at the best threshold': 0.65}
        (tmp_path / f'{run.name}.json').write_text(json.dumps(record))
    rows = {name: table().splitlines() for name, table in public_tables.TABLES.items()}
    assert rows['short'][2:] == [
        '| bccd | edgenext-xxsmall | AP50 | 0.825 (0.810, 0.840) | 2.34M | 0.512G | 20.5 ms '
        '| 320x256 | 8,200 | 30 min |'
    ]
    assert [row.split(' | ')[3] for row in rows['full'][2:]] == ['97.4']
    assert rows['curves'][2:] == ['| sign_digits | top-1 | 1 | 97.4 | 97.4 | 97.4 | 97.4 | 97.4 |']
    assert rows['anchors'][2:] == ['| bccd | gfl | AP50 | 0.825 (0.810, 0.840) | 0.800 |']
    assert rows['thresholds'][2:] == ['| sign_digits | 0 | 0.382 | 0.650 | 0.600 |']
    assert all(row.count('|') == rows[name][0].count('|') for name in rows for row in rows[name])

"""Other backbones in the recipes for custom data, and the table of results."""

import json

import pytest
import torch
from mmengine.registry import MODELS

from benchmarks import public_data
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
    values = ((0, 0.81, 'fitted'), (1, 0.84, 'fitted'), (2, 0.8, 'recipe'))
    for seed, value, anchors in values:
        record = dict(set='bccd', model=public_data.OURS, seed=seed, metric='AP50', final=value)
        record['anchors'] = anchors
        record |= dict(parameters=2_340_000, madds=512_000_000, latency_ms=20.0 + seed)
        record |= dict(image_size=[320, 256], images=8200, cpu_minutes=30.4)
        (tmp_path / f'{seed}.json').write_text(json.dumps(record))
    head, _, row = public_data.results_table().splitlines()
    cells = [cell.strip() for cell in row.strip('|').split('|')]
    assert cells == [
        'bccd', 'edgenext-xxsmall', 'AP50', '0.825 (0.810, 0.840)', '2.34M', '0.512G', '20.5 ms',
        '320x256', '8,200', '30 min',
    ]  # fmt: skip
    assert head.count('|') == row.count('|')
    assert public_data.anchors_table().splitlines()[2:] == [
        '| bccd | edgenext-xxsmall | AP50 | 0.825 (0.810, 0.840) | 0.800 |'
    ]

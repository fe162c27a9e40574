"""The metafiles describe every config."""

import pytest
import yaml
from modelindex.load_model_index import load
from paths import CONFIGS, ROOT

from benchmarks.metafiles import describe

MODELS = [
    model
    for path in sorted((ROOT / 'configs').glob('*/metafile.yml'))
    for model in yaml.safe_load(path.read_text())['Models']
]


def test_every_config_is_in_a_metafile_once():
    configs = [str(path.relative_to(ROOT)) for path in CONFIGS]
    assert sorted(model['Config'] for model in MODELS) == sorted(configs)
    names = [model['Name'] for model in MODELS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize('model', MODELS, ids=lambda model: model['Name'])
def test_metafiles_are_up_to_date(model):
    """Builds every config and counts its parameters and multiply-adds; `make docs` updates them."""
    path = ROOT / model['Config']
    assert describe(path, ROOT / 'configs' / path.relative_to(ROOT / 'configs').parts[0]) == model


@pytest.mark.parametrize(
    ('name', 'metric', 'value'),
    [
        ('edgenext-xxsmall_3rdparty_in1k', 'ImageNet-1K top-1', 71.23),
        ('edgenext-xsmall_3rdparty_in1k', 'ImageNet-1K top-1', 74.96),
        ('edgenext-small_3rdparty_in1k', 'ImageNet-1K top-1', 79.41),
        ('edgenext-small-usi_3rdparty_in1k', 'ImageNet-1K top-1', 81.07),
        ('edgenext-base_3rdparty_in1k', 'ImageNet-1K top-1', 82.47),
        ('edgenext-base-usi_3rdparty_in1k', 'ImageNet-1K top-1', 83.68),
        ('edgenext-base_in21k-p-pre_3rdparty_in1k', 'ImageNet-1K top-1', 83.31),
        ('edgenext-xxsmall_bnhs_3rdparty_in1k', 'ImageNet-1K top-1', 70.33),
        ('edgenext-xsmall_bnhs_3rdparty_in1k', 'ImageNet-1K top-1', 74.87),
        ('edgenext-small_bnhs_3rdparty_in1k', 'ImageNet-1K top-1', 78.39),
        ('ssdlite_edgenext-small_4xb32-200e_coco', 'box AP', 27.9),
        ('deeplabv3_edgenext-small_4xb16-50e_voc12aug-coco-512x512', 'mIoU', 80.2),
        ('rotated-gfl-le135_edgenext-small_fpn_1xb2-1x_dota', 'AP50', 70.75),
    ],
)
def test_results_are_those_published(name, metric, value):
    """From the authors' repository, the paper's Tables 5 and 6, and the DOTA row."""
    model = next(model for model in MODELS if model['Name'] == name)
    results = [result['Metrics'] for result in model['Results'] if 'Input' not in result]
    assert results == [{metric: value}]


def test_results_at_larger_images_are_those_of_timm():
    """From the rows of timm's results/results-imagenet.csv, and the sizes in its definitions."""
    from timm.models import get_pretrained_cfg

    measured = {
        'edgenext_xx_small.in1k': ('edgenext-xxsmall_3rdparty_in1k', 71.878),
        'edgenext_x_small.in1k': ('edgenext-xsmall_3rdparty_in1k', 75.688),
        'edgenext_small.usi_in1k': ('edgenext-small-usi_3rdparty_in1k', 81.564),
        'edgenext_base.usi_in1k': ('edgenext-base-usi_3rdparty_in1k', 83.958),
        'edgenext_base.in21k_ft_in1k': ('edgenext-base_in21k-p-pre_3rdparty_in1k', 84.054),
        'edgenext_small_rw.sw_in1k': ('edgenext-small_rw_3rdparty_in1k', 80.458),
    }
    results = {
        model['Name']: (result['Input'], result['Metrics']['ImageNet-1K top-1'])
        for model in MODELS
        for result in model.get('Results', ())
        if 'Input' in result
    }
    assert results == {
        name: (
            'x'.join(map(str, get_pretrained_cfg(timm_name).test_input_size[1:])),
            round(top1, 2),
        )
        for timm_name, (name, top1) in measured.items()
    }


def test_mim_can_read_the_index():
    index = load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    assert len(index.models) == len(MODELS)
    model = next(m for m in index.models if m.name == 'edgenext-small_3rdparty_in1k')
    assert model.weights.endswith('v1.0/edgenext_small.pth')
    assert model.results[0].metrics == {'ImageNet-1K top-1': 79.41}

"""Classifiers with other classes, compared with timm's method."""

import numpy as np
import pytest
import torch
from golden import draw_like
from logs import logged
from torch import nn

from edgenext_mm import EdgeNeXt, export, inference_model, load_model, reset_classifier
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.deployment import FORMATS
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.models.loading import load_backbone

IMAGE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


@pytest.mark.parametrize('num_classes', [3, 10])
def test_only_the_last_layer_is_new_as_in_timm(num_classes, classifier, timm_edgenext):
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    model = reset_classifier(classifier, num_classes)
    torch.testing.assert_close(dict(classifier.state_dict()), before, rtol=0, atol=0)

    reference = timm_edgenext.edgenext_xx_small(num_classes=10)
    reference.reset_classifier(num_classes)
    assert model.head.fc.weight.shape == reference.head.fc.weight.shape
    # timm's new layer has the values of torch; ours is initialised as in the paper.
    assert model.head.fc.weight.std().item() == pytest.approx(0.02, rel=0.15)
    assert model.head.fc.bias.abs().max() == 0
    for name, value in model.state_dict().items():
        if not name.startswith('head.fc.'):
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    features = [inference_model(m, IMAGE, features=True)['features'] for m in (classifier, model)]
    np.testing.assert_array_equal(*features)
    assert not model.training


def test_the_copy_is_saved_and_exported_with_its_classes(classifier, tmp_path):
    model = reset_classifier(classifier, 2, ['cat', 'dog'])
    result = inference_model(model, IMAGE)
    assert result['pred_class'] in ('cat', 'dog')
    assert result['pred_scores'].shape == (2,)
    model.cfg.dump(tmp_path / 'cats.py')
    meta = dict(dataset_meta=model.dataset_meta)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), tmp_path / 'cats.pth')
    loaded = load_model(tmp_path / 'cats.py', tmp_path / 'cats.pth', 'cpu')
    file = tmp_path / f'cats{FORMATS["torchscript"].suffix}'
    export(model, file, 'torchscript', (64, 64))
    for other in (loaded, file):
        again = inference_model(other, IMAGE)
        assert again['pred_class'] == result['pred_class']
        np.testing.assert_allclose(again['pred_scores'], result['pred_scores'], atol=1e-5)


def test_a_config_for_few_classes_can_be_evaluated():
    config = load_config(find_config('edgenext-xxsmall_8xb256_in1k'))
    config.data_preprocessor.num_classes = 1000
    model = build_model(config)
    model.cfg = config
    copy = reset_classifier(model, 4)
    assert copy.cfg.val_evaluator.topk == (1,)
    assert copy.cfg.model.head.num_classes == 4
    assert copy.cfg.data_preprocessor.num_classes == 4


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0,), '`num_classes` is 0'),
        (('3',), "`num_classes` is '3'"),
        ((3, ['a', 'b']), '`classes` has 2 names, but `num_classes` is 3'),
    ],
)
def test_wrong_numbers_are_refused(arguments, message, classifier):
    with pytest.raises(UserError, match=message):
        reset_classifier(classifier, *arguments)


def test_other_models_are_refused():
    with pytest.raises(UserError, match=r'Linear is not a classifier from load_model'):
        reset_classifier(nn.Linear(2, 2), 3)


@torch.no_grad()
def test_unused_stages_are_not_built_as_if_timm_had_pruned_them(timm_edgenext, tmp_path):
    reference = timm_edgenext.edgenext_xx_small().eval()
    reference.load_state_dict(draw_like(reference.state_dict()))
    torch.save(reference.state_dict(), tmp_path / 'complete.pth')
    model = EdgeNeXt('xxsmall', out_indices=(0, 1)).eval()
    with logged() as messages:
        load_backbone(model, tmp_path / 'complete.pth')
    count = len(model.state_dict())
    assert f'loaded {count} of {count} tensors' in messages[-1]
    assert 'downsample_layers.2.0.weight' in messages[-1].split('Left out: ')[1]
    assert 'Initialised anew: nothing.' in messages[-1]
    reference.prune_intermediate_layers([0, 1])
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in reference.parameters()
    )
    x = torch.randn(1, 3, 64, 96)
    expected = reference.forward_intermediates(x, indices=[0, 1], intermediates_only=True)
    for a, e in zip(model(x), expected, strict=True):
        torch.testing.assert_close(a, e, rtol=0, atol=1e-5 * e.abs().max().item())

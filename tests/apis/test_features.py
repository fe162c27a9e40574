"""Features, embeddings and similar images, compared with timm and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from golden import draw_like
from sklearn.metrics.pairwise import cosine_similarity

from edgenext_mm import embeddings, inference_model, load_model, nearest_images
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import ImagePipeline
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model


@pytest.fixture(scope='module')
def timm_model(timm_edgenext):
    torch.manual_seed(0)
    model = timm_edgenext.edgenext_xx_small().eval()
    model.load_state_dict(draw_like(model.state_dict()))
    return model


@pytest.fixture(scope='module')
def model(timm_model, tmp_path_factory):
    path = tmp_path_factory.mktemp('timm') / 'xxsmall.pth'
    torch.save(timm_model.state_dict(), path)
    return load_model(load_config(find_config('edgenext-xxsmall_8xb256_in1k')), path, 'cpu')


@torch.no_grad()
def test_features_are_those_of_timm(model, timm_model):
    image = np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8)
    x = ImagePipeline(model.cfg)(image)['inputs'][None].float().flip(1)  # to red-green-blue
    x = (x - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)) / torch.tensor(
        [58.395, 57.12, 57.375]
    ).view(3, 1, 1)
    expected = timm_model.forward_head(timm_model.forward_features(x), pre_logits=True)[0].numpy()
    result = inference_model(model, image, features=True)
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(result['features'], expected, rtol=0, atol=tolerance)
    plain = inference_model(model, image)
    assert plain.keys() == result.keys() - {'features'}
    np.testing.assert_array_equal(plain['pred_scores'], result['pred_scores'])
    vectors = embeddings(model, [image, image[:, ::-1], image], batch_size=2)
    assert vectors.shape == (3, 168)
    np.testing.assert_allclose(vectors[::2], [expected] * 2, rtol=0, atol=tolerance)
    assert np.abs(vectors[1] - expected).max() > 10 * tolerance


@torch.no_grad()
def test_other_models_give_the_maps_of_the_backbone():
    config = load_config(find_config('deeplabv3_edgenext-xxsmall_digits'))
    model = build_model(config).eval()
    model.cfg, model.dataset_meta = config, {}
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    result = inference_model(model, image, features=True)
    data = ImagePipeline(config)(image)
    x = model.data_preprocessor(
        dict(inputs=[data['inputs']], data_samples=[data['data_samples']]), False
    )['inputs']
    maps = model.backbone(x)
    assert len(result['feature_maps']) == len(maps)
    for actual, expected in zip(result['feature_maps'], maps, strict=True):
        np.testing.assert_allclose(actual, expected[0].numpy(), rtol=1e-5, atol=1e-6)
    mean = maps[-1][0].mean((1, 2)).numpy()
    np.testing.assert_allclose(result['features'], mean, rtol=1e-4, atol=1e-6)


def test_nearest_images_have_the_largest_cosine_similarity(classifier, few_digits):
    gallery = sorted((few_digits / 'train').rglob('*.png'))
    queries = sorted((few_digits / 'val').rglob('*.png'))[:3]
    found = nearest_images(classifier, [*queries, gallery[7]], few_digits / 'train', count=4)
    expected = cosine_similarity(
        embeddings(classifier, [*queries, gallery[7]]), embeddings(classifier, gallery)
    )
    for neighbours, row in zip(found, expected, strict=True):
        assert [n.similarity for n in neighbours] == pytest.approx(sorted(row)[::-1][:4], abs=1e-5)
        for image, similarity in neighbours:
            assert row[gallery.index(image)] == pytest.approx(similarity, abs=1e-5)
    assert found[-1][0].image == gallery[7]
    assert found[-1][0].similarity == pytest.approx(1, abs=1e-5)


def test_the_tool_prints_similar_images(digits_checkpoint, few_digits, call_tool):
    query = next((few_digits / 'val' / '3').iterdir())
    done = call_tool(
        'find_similar.py', 'edgenext-xxsmall_digits', few_digits / 'val', '--query', query,
        '--checkpoint', digits_checkpoint, '--count', 2, '--json', '--device', 'cpu',
    )  # fmt: skip
    (result,) = json.loads(done.stdout)
    assert result['image'] == str(query)
    assert result['similar'][0] == dict(image=str(query), similarity=pytest.approx(1, abs=1e-5))
    assert len(result['similar']) == 2


def test_errors_of_features(classifier, exported, few_digits, tmp_path):
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(UserError, match=r'ExportedModel gives no features.*a checkpoint'):
        inference_model(exported('torchscript')[0], image, features=True)
    with pytest.raises(UserError, match='either `tile` or `features`'):
        inference_model(classifier, image, tile=64, features=True)
    with pytest.raises(UserError, match='`count` is 0'):
        nearest_images(classifier, image, image, count=0)
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'broken\.png'):
        embeddings(classifier, [image, tmp_path / 'broken.png'])

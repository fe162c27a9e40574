import json

import numpy as np
import pytest
import torch
from PIL import Image

from edgenext_mm import inference_model
from edgenext_mm.apis.results import to_json
from edgenext_mm.errors import UserError


@pytest.fixture
def model(classifier):
    return classifier


def test_scores_equal_the_network_on_hand_made_input(model, few_digits):
    path = next((few_digits / 'val' / '3').iterdir())
    image = Image.open(path).convert('RGB').resize((64, 64), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = model.head.fc(model.backbone((x - 127.5) / 127.5)[-1])[0]
    result = inference_model(model, path)
    # OpenCV and Pillow do not interpolate alike; the scores of the classes still do.
    np.testing.assert_allclose(result['pred_scores'], logits.softmax(0).numpy(), atol=0.02)


def test_a_result_says_label_score_and_class(model, few_digits):
    result = inference_model(model, next((few_digits / 'val' / '3').iterdir()))
    assert result['pred_label'] == int(result['pred_scores'].argmax())
    assert result['pred_score'] == pytest.approx(result['pred_scores'].max())
    assert result['pred_class'] == '0123456789'[result['pred_label']]
    assert result['pred_scores'].sum() == pytest.approx(1, abs=1e-5)


def test_array_file_and_pillow_image_give_the_same(model, few_digits):
    path = next((few_digits / 'val' / '3').iterdir())
    pillow = Image.open(path)
    scores = [
        inference_model(model, source)['pred_scores']
        for source in (path, str(path), pillow, np.asarray(pillow))
    ]
    for other in scores[1:]:
        np.testing.assert_array_equal(other, scores[0])


def test_folders_and_lists_give_lists_in_order(model, few_digits):
    folder = few_digits / 'val'
    paths = sorted(folder.rglob('*.png'))
    from_folder = inference_model(model, folder, batch_size=7)
    one_by_one = inference_model(model, paths)
    assert len(from_folder) == len(paths) == 20
    for a, b in zip(from_folder, one_by_one, strict=True):
        np.testing.assert_allclose(a['pred_scores'], b['pred_scores'], atol=1e-5)
    assert isinstance(inference_model(model, paths[:1]), list)


def test_config_and_checkpoint_serve_instead_of_a_model(digits_checkpoint, few_digits, model):
    path = next((few_digits / 'val' / '8').iterdir())
    result = inference_model('edgenext-xxsmall_digits', path, digits_checkpoint, device='cpu')
    expected = inference_model(model, path)['pred_scores']
    np.testing.assert_array_equal(result['pred_scores'], expected)


def test_results_can_be_json(model, few_digits):
    path = next((few_digits / 'val' / '3').iterdir())
    plain = json.loads(json.dumps(to_json(path, inference_model(model, path))))
    assert plain['image'] == str(path)
    assert len(plain['pred_scores']) == 10


def test_an_image_too_long_to_be_resized_is_refused(model):
    with pytest.raises(UserError, match=r'is 401 pixels wide and 4 high; .* up to 100 times'):
        inference_model(model, np.zeros((4, 401, 3), np.uint8))
    assert inference_model(model, np.zeros((400, 4, 3), np.uint8))['pred_label'] in range(10)


def test_a_batch_holds_an_image(model):
    with pytest.raises(UserError, match='batch_size is at least 1, got 0'):
        inference_model(model, np.zeros((4, 4, 3), np.uint8), batch_size=0)

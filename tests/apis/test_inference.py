import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmpretrain.models import ImageToImageRetriever
from paths import DIGITS_CONFIG, ROOT
from PIL import Image

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.datasets.image_pipeline import ImagePipeline
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.runtime.results import to_json
from edgenext_mm.runtime.sources import list_images


@pytest.fixture
def model(classifier):
    return classifier


def test_scores_equal_the_network_on_a_prepared_input(model, few_digits):
    path = next((few_digits / 'val' / '3').iterdir())
    image = Image.open(path).convert('RGB').resize((64, 64), Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        logits = model.head.fc(model.backbone((x - 127.5) / 127.5)[-1])[0]
    result = inference_model(model, path)
    # OpenCV and Pillow interpolate differently; the scores are still close.
    np.testing.assert_allclose(result['pred_scores'], logits.softmax(0).numpy(), atol=0.02)
    assert result['pred_label'] == int(result['pred_scores'].argmax())
    assert result['pred_score'] == pytest.approx(result['pred_scores'].max())
    assert result['pred_class'] == '0123456789'[result['pred_label']]
    plain = json.loads(json.dumps(to_json(path, result)))
    assert plain['image'] == str(path)
    assert len(plain['pred_scores']) == 10


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


def test_config_and_checkpoint_in_place_of_a_model(digits_checkpoint, few_digits, model):
    path = next((few_digits / 'val' / '8').iterdir())
    result = inference_model('edgenext-xxsmall_digits', path, digits_checkpoint, device='cpu')
    expected = inference_model(model, path)['pred_scores']
    np.testing.assert_array_equal(result['pred_scores'], expected)


def test_an_image_too_long_to_be_resized_is_refused(model):
    with pytest.raises(UserError, match=r'is 401 pixels wide and 4 high; .* up to 100 times'):
        inference_model(model, np.zeros((4, 401, 3), np.uint8))
    assert inference_model(model, np.zeros((400, 4, 3), np.uint8))['pred_label'] in range(10)


def test_an_empty_batch_is_refused(model):
    with pytest.raises(UserError, match=r'`batch_size` is 0\. Give a positive number'):
        inference_model(model, np.zeros((4, 4, 3), np.uint8), batch_size=0)


def bad_files(folder):
    """Writes unreadable files that users have among their images; returns their names."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / 'cut.jpg')
    (folder / 'cut.jpg').write_bytes((folder / 'cut.jpg').read_bytes()[:500])
    (folder / 'empty.png').write_bytes(b'')
    (folder / 'text.jpg').write_text('<html>404</html>')
    (folder / 'link.png').symlink_to(folder / 'gone.png')
    Image.new('RGB', (500, 2)).save(folder / 'wide.png')
    (folder / 'bomb.ppm').write_bytes(b'P6 30000 30000 255\n')
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def mixed(tmp_path, few_digits):
    """A folder of good and bad files, and the names of the bad ones."""
    folder = tmp_path / 'photos'
    folder.mkdir()
    bad = bad_files(folder)
    for i, path in enumerate(sorted((few_digits / 'val').rglob('*.png'))[:6]):
        shutil.copy(path, folder / f'digit-v1.{i}.png')
    for name in ('._digit.png', '.hidden.png'):  # skipped
        (folder / name).write_bytes(b'Mac OS X')
    (folder / 'album.jpg').mkdir()
    return folder, bad


@pytest.mark.parametrize('batch_size', [1, 32])
def test_bad_files_do_not_affect_the_others(model, mixed, batch_size):
    folder, bad = mixed
    paths = list_images(folder)
    results = inference_model(model, folder, batch_size=batch_size)
    assert {p.name for p, r in zip(paths, results, strict=True) if 'error' in r} == bad
    for path, result in zip(paths, results, strict=True):
        if path.name in bad:
            assert path.name in result['error']
            with pytest.raises(UserError) as raised:
                inference_model(model, path)
            assert str(raised.value) == result['error']
        else:
            alone = inference_model(model, path)['pred_scores']
            np.testing.assert_allclose(result['pred_scores'], alone, atol=1e-5)


def test_an_image_that_the_model_cannot_take_does_not_affect_its_batch(digits_checkpoint):
    config = load_config(DIGITS_CONFIG)
    config.test_dataloader.dataset.pipeline[0] = dict(
        type='LoadImageFromFile', color_type='unchanged'
    )
    model = load_model(config, digits_checkpoint, 'cpu')
    good, bad = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 6), np.uint8)
    results = inference_model(model, [good, bad, good], batch_size=3)
    assert ['error' in result for result in results] == [False, True, False]
    assert '(40, 40, 6)' in results[1]['error']
    with pytest.raises(UserError, match=r'cannot process an image of \(40, 40, 6\)') as raised:
        inference_model(model, bad)
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_a_failing_step_is_named(digits_checkpoint):
    config = load_config(DIGITS_CONFIG)
    config.test_dataloader.dataset.pipeline[1] = dict(type='ResizeEdge', scale=0)
    model = load_model(config, digits_checkpoint, 'cpu')
    with pytest.raises(UserError, match='The step ResizeEdge of the test pipeline fails for an im'):
        inference_model(model, np.zeros((40, 40, 3), np.uint8))


def multi_label_model(tmp_path, head):
    """A multi-label classifier with the same known scores for every image."""
    config = load_config(DIGITS_CONFIG)
    config.model.head = dict(num_classes=4, in_channels=168, **head)
    model = build_model(config)
    for parameter in model.head.parameters():
        torch.nn.init.zeros_(parameter)
    path = tmp_path / 'weights.pth'
    model.head.fc.bias.data = torch.tensor([3.5, -4.0, 3.5, 0.2])
    meta = dict(dataset_meta=dict(classes=('cat', 'dog', 'sofa', 'car')))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), path)
    return load_model(config, path, 'cpu')


@pytest.mark.parametrize(
    ('settings', 'classes'),
    [
        (dict(thr=0.9), ['cat', 'sofa']),
        (dict(), ['cat', 'sofa', 'car']),
        (dict(thr=0.99), []),
        (dict(topk=1), ['cat']),
    ],
)
def test_multi_label_classifiers_give_all_labels(tmp_path, settings, classes):
    model = multi_label_model(tmp_path, dict(type='MultiLabelLinearClsHead', **settings))
    result = inference_model(model, np.zeros((40, 40, 3), np.uint8))
    assert result['pred_classes'] == classes
    expected = 1 / (1 + np.exp([-3.5, 4, -3.5, -0.2]))
    np.testing.assert_allclose(result['pred_scores'], expected, atol=1e-6)


def test_a_retriever_is_refused():
    model = ImageToImageRetriever(
        image_encoder=dict(type='EdgeNeXt', arch='xxsmall'), prototype=torch.zeros(2, 168)
    )
    model.cfg, model.dataset_meta = load_config(DIGITS_CONFIG), {}
    with pytest.raises(UserError, match='ranks the images of a gallery'):
        inference_model(model, np.zeros((40, 40, 3), np.uint8))


def test_the_tool_lists_bad_files_and_keeps_the_others(run_tool, mixed, digits_checkpoint):
    folder, bad = mixed
    out = folder.parent / 'pictures-v1.0'
    options = ('--checkpoint', digits_checkpoint, '--device', 'cpu', '--batch-size', 32)
    done = run_tool('infer.py', DIGITS_CONFIG, folder, *options, '--json', '--out', out, status=1)
    results = json.loads(done.stdout)
    assert [Path(r['image']) for r in results] == list_images(folder)
    assert {Path(r['image']).name for r in results if 'error' in r} == bad
    listed = done.stderr.partition('error: 6 of 12 images have no result:')[2]
    assert all(name in listed for name in bad)
    assert (out / 'predictions.png').is_file()
    assert 'Traceback' not in done.stderr


def test_ctrl_c_keeps_the_results_so_far(monkeypatch, capsys, few_digits, digits_checkpoint):
    """The user presses Ctrl-C at the third image."""
    images = [str(path) for path in sorted((few_digits / 'val').rglob('*.png'))[:5]]
    infer = runpy.run_path(str(ROOT / 'tools' / 'infer.py'))
    read = ImagePipeline.__call__

    def read_until(self, source):
        if str(source) == images[2]:
            raise KeyboardInterrupt
        return read(self, source)

    monkeypatch.setattr(ImagePipeline, '__call__', read_until)
    options = ['--checkpoint', str(digits_checkpoint), '--device', 'cpu']
    monkeypatch.setattr(sys, 'argv', ['infer.py', str(DIGITS_CONFIG), *images, *options])
    with pytest.raises(SystemExit) as ended:
        infer['main']()
    assert ended.value.code == 130
    printed = capsys.readouterr()
    assert [line.partition(': ')[0] for line in printed.out.splitlines()] == images[:2]
    assert 'interrupted after 2 of 5 images' in printed.err

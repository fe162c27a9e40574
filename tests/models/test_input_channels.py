"""Inputs of other than three channels."""

import numpy as np
import pytest
import tifffile
import timm
import torch
from timm.models._manipulate import adapt_input_conv

from edgenext_mm import EdgeNeXt, inference_model
from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model


@pytest.mark.parametrize('channels', [1, 2, 4, 6])
def test_rgb_weights_give_the_maps_of_timms_model(channels, tmp_path):
    torch.manual_seed(0)
    rgb = timm.create_model('edgenext_xx_small', num_classes=0).eval()
    state = rgb.state_dict()
    path = tmp_path / 'rgb.pth'
    torch.save(state, path)
    other = timm.create_model('edgenext_xx_small', num_classes=0, in_chans=channels).eval()
    adapted = adapt_input_conv(channels, state['stem.0.weight'])
    other.load_state_dict({**state, 'stem.0.weight': adapted})
    ours = EdgeNeXt(
        'xxsmall',
        in_channels=channels,
        init_cfg=dict(type='Pretrained', checkpoint=str(path)),
    ).eval()
    ours.init_weights()
    images = torch.rand(2, channels, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[-1], other.forward_features(images))


@pytest.mark.parametrize('channels', [1, 6])
def test_training_and_inference_on_float_tiff(channels, digits_training, tmp_path):
    """The model sees the values of the file: those of float TIFF beyond 255 are not clipped."""
    rng = np.random.default_rng(0)
    for split in ('train', 'val'):
        for label in range(10):
            folder = tmp_path / 'data' / split / str(label)
            folder.mkdir(parents=True)
            shape = (40, 40, channels) if channels > 1 else (40, 40)
            for i in range(2):
                values = rng.uniform(0, 4000, shape).astype(np.float32)
                tifffile.imwrite(folder / f'{i}.tif', values)
    config = digits_training(4, 1)
    config.model.backbone.in_channels = channels
    config.data_preprocessor = dict(mean=[2000.0], std=[1000.0], num_classes=10)
    load = dict(type='LoadImageFromFile', imdecode_backend='tifffile')
    pipeline = [load, dict(type='PackInputs')]
    for name in ('train', 'val', 'test'):
        dataset = config[f'{name}_dataloader'].dataset
        dataset.data_root, dataset.pipeline = str(tmp_path / 'data'), pipeline
    runner = build_runner(config)
    runner.train()
    sample = runner.val_dataloader.dataset[0]
    expected = tifffile.imread(tmp_path / 'data' / 'val' / '0' / '0.tif').reshape(40, 40, channels)
    np.testing.assert_array_equal(sample['inputs'].permute(1, 2, 0).numpy(), expected)
    runner.model.cfg = config
    runner.model.dataset_meta = runner.val_dataloader.dataset.metainfo
    result = inference_model(runner.model, tmp_path / 'data' / 'val' / '0' / '0.tif')
    with torch.no_grad():
        data = runner.model.data_preprocessor(dict(inputs=[sample['inputs']]), False)
        scores = runner.model(data['inputs'], mode='tensor').softmax(1)[0]
    np.testing.assert_allclose(result['pred_scores'], scores.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (dict(mean=[1.0] * 3, std=[1.0] * 3), r'mean has 3 values, but .*in_channels is 4'),
        (dict(mean=[1.0], std=[1.0], bgr_to_rgb=True), r'swaps the colours.*bgr_to_rgb=False'),
    ],
)
def test_a_data_preprocessor_for_other_channels_is_refused(settings, message):
    config = load_config('configs/detection/ssdlite_edgenext-xxsmall_digits.py')
    config.model.backbone.in_channels = 4
    config.model.data_preprocessor.update(bgr_to_rgb=False, **{'mean': None, 'std': None})
    config.model.data_preprocessor.update(settings)
    with pytest.raises(UserError, match=message):
        build_model(config)


def test_the_log_says_that_the_first_convolution_was_adapted(tmp_path, caplog):
    path = tmp_path / 'rgb.pth'
    torch.save(EdgeNeXt('xxsmall').state_dict(), path)
    from edgenext_mm.models.loading import fit_weights

    report = fit_weights(EdgeNeXt('xxsmall', in_channels=4), torch.load(path), 'rgb.pth').report
    assert 'adapted from 3 input channels to 4' in report
    assert 'Left out: nothing' in report

"""Quantization-aware training: the rounding, its agreement with INT8 files, and resuming."""

import copy
import functools

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.apis.model import load_model
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import default_images, normalised_images
from edgenext_mm.deployment.int8 import Int8Settings
from edgenext_mm.engine.qat import merge_qat
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.models.fake_quantization import (
    QuantizedLinear,
    ValueRange,
    fold,
    foldable_norms,
    quantize_layers,
    quantized_weight,
)


def test_weights_are_rounded_per_channel():
    weight = np.random.default_rng(0).normal(size=(5, 7, 3, 3)).astype(np.float32)
    weight *= np.array([1, 10, 0.1, 1e-3, 0], np.float32).reshape(-1, 1, 1, 1)
    scale = np.abs(weight).max((1, 2, 3), keepdims=True) / 127
    expected = np.round(weight / np.maximum(scale, 1e-12)) * scale
    found = quantized_weight(torch.from_numpy(weight))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('symmetric', [True, False])
def test_inputs_are_rounded_in_the_range_of_a_batch(symmetric):
    x = torch.linspace(-1, 3, 1000)
    found = ValueRange(symmetric)(x).numpy()  # in training mode
    step = 3 / 127 if symmetric else 4 / 255
    np.testing.assert_allclose(found, np.round(x.numpy() / step) * step, rtol=0, atol=1e-6)


def test_ranges_follow_slowly_and_can_be_frozen():
    follower = ValueRange(symmetric=False)
    follower(torch.tensor([-1.0, 1.0]))
    follower(torch.tensor([-1.0, 3.0]))
    assert follower.limits.tolist() == pytest.approx([-1, 1 + 0.05 * 2])
    follower.is_frozen = True
    follower(torch.tensor([-1.0, 30.0]))
    assert follower.limits.tolist() == pytest.approx([-1, 1.1])


def test_gradients_pass_the_rounding():
    layer = nn.Linear(3, 2)
    quantize_layers(nn.Sequential(layer))
    assert type(layer) is QuantizedLinear
    x = torch.tensor([[1.0, -2.0, 3.0]], requires_grad=True)
    layer(x).sum().backward()
    # The output is at the end of its range, where the gradient is whole as well.
    torch.testing.assert_close(x.grad, quantized_weight(layer.weight).sum(0, keepdim=True))


def randomized(arch):
    """A backbone whose norms and layer scales matter."""
    torch.manual_seed(0)
    backbone = EdgeNeXt(arch, final_norm=None).eval()
    for name, value in backbone.named_parameters():
        if 'norm' in name or 'gamma' in name or '.0.weight' in name or '.0.bias' in name:
            nn.init.uniform_(value, 0.5, 1.5)
    for name, value in backbone.named_buffers():
        if name.endswith(('running_mean', 'running_var')):
            nn.init.uniform_(value, 0.5, 1.5)
    return backbone


@pytest.mark.parametrize(
    'arch', ['xxsmall', 'xxsmall_bnhs', dict(base='small', depths=(2, 2, 2, 2))]
)
@torch.no_grad()
def test_folded_norms_change_no_output(arch):
    backbone = randomized(arch)
    x = torch.randn(2, 3, 64, 64)
    before = backbone(x)
    pairs = list(foldable_norms(backbone))
    assert pairs
    fold(backbone)
    for norm, _ in pairs:
        y = torch.randn(2, len(norm.weight), 4, 4) * (3 if isinstance(norm, nn.LayerNorm) else 1)
        if not isinstance(norm, nn.LayerNorm):
            torch.testing.assert_close(norm(y), y, rtol=1e-5, atol=1e-5)
    for found, expected in zip(backbone(x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['convolution', 'linear'])
def test_simulation_equals_the_int8_file(kind, classifier, tmp_path):
    images = list(normalised_images(classifier, default_images(), (64, 64)))
    options = dict(shape=(64, 64), precision='int8', calibration=images, images=images)
    others = {'attention', 'depthwise', 'convolution', 'linear'} - {kind}
    settings = Int8Settings('symmetric', keep_float=tuple(others))
    path = tmp_path / 'int8.onnx'
    export(classifier, path, 'onnx', int8=settings, bound=float('inf'), **options)
    exact = onnxruntime.SessionOptions()  # without its own kernels for INT8, which round otherwise
    exact.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, exact)
    in_file = np.concatenate([session.run(None, {'images': i.numpy()})[0] for i in images])

    simulated, x = copy.deepcopy(classifier), torch.cat(images)
    fold(simulated)
    limits = ranges_of(simulated, x)
    ranges = quantize_layers(simulated, keep_float=others)
    for name, followed in ranges.items():
        followed.limits.copy_(limits[name])
        followed.is_known = True
    with torch.no_grad():
        found, in_fp32 = (m(x, mode='tensor').numpy() for m in (simulated, classifier))
    errors = np.abs(found - in_file)
    assert np.abs(in_fp32 - in_file).max() > 1e-2
    if kind == 'convolution':
        assert errors.max() < 1e-5
    else:  # values between two steps can go to either of them, and logits then differ by a step
        step = np.abs(in_fp32).max() / 127
        assert (errors < 1e-5).mean() >= 0.4
        assert errors.max() < 2.1 * step


def ranges_of(model, x):
    """Smallest and largest inputs and outputs of all layers in floating point."""
    limits, handles = {}, []

    def record(name, layer, inputs, output):
        for part, value in (('input_range', inputs[0]), ('output_range', output)):
            limits[f'{name}.{part}'] = torch.stack(value.aminmax())

    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            handles.append(layer.register_forward_hook(functools.partial(record, name)))
    with torch.no_grad():
        model(x, mode='tensor')
    for handle in handles:
        handle.remove()
    return limits


def quantized_config(digits_training, tmp_path, epochs=2):
    config = digits_training(8, epochs)
    config.custom_hooks = [dict(type='edgenext_mm.QuantizationAwareHook')]
    config.work_dir = str(tmp_path)
    config.train_cfg.val_interval = 1
    return config


def test_checkpoints_are_those_of_the_usual_model_and_resume_exactly(digits_training, tmp_path):
    whole = build_runner(quantized_config(digits_training, tmp_path / 'whole'))
    whole.train()
    model = load_model(digits_training(8, 2), tmp_path / 'whole' / 'epoch_2.pth', 'cpu')
    trained = whole.model.state_dict()
    assert trained.keys() == model.state_dict().keys()

    config = quantized_config(digits_training, tmp_path / 'resumed')
    config.resume, config.load_from = True, str(tmp_path / 'whole' / 'epoch_1.pth')
    resumed = build_runner(config)
    resumed.train()
    for name, value in resumed.model.state_dict().items():
        torch.testing.assert_close(value, trained[name], rtol=0, atol=0)
    ranges = [
        {n: m.limits for n, m in runner.model.named_modules() if isinstance(m, ValueRange)}
        for runner in (whole, resumed)
    ]
    torch.testing.assert_close(*ranges, rtol=0, atol=0)
    assert all(high > low for low, high in ranges[0].values())
    for norm, _ in foldable_norms(whole.model):
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))


def test_the_config_of_fine_tuning(digits_training, tmp_path):
    config = digits_training(8, 30)
    rate = config.optim_wrapper.optimizer.lr
    with pytest.raises(UserError, match='Train first'):
        merge_qat(config, 'auto')
    torch.save(dict(state_dict={}, meta={}), tmp_path / 'model.pth')
    work = config.work_dir
    merge_qat(config, str(tmp_path / 'model.pth'))
    assert config.train_cfg.max_epochs == 3
    assert config.work_dir == f'{work}_qat'
    assert config.optim_wrapper.optimizer.lr == pytest.approx(rate / 10)
    assert config.load_from == str(tmp_path / 'model.pth')

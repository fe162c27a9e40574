import math
from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from golden import draw_like
from torch import nn

from edgenext_mm.models.layers import (
    ConvEncoder,
    CrossCovarianceAttention,
    LayerNorm2d,
    PositionalEncodingFourier,
    SDTAEncoder,
    build_norm,
    recompute,
)


def drawn(module):
    """The module in evaluation mode, with weights for which all branches matter."""
    module.load_state_dict(draw_like(module.state_dict()))
    return module.eval()


def randn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def to_timm(state_dict):
    return {
        name.replace('dwconv', 'conv_dw').replace('pwconv', 'mlp.fc'): value
        for name, value in state_dict.items()
    }


# At 1e-3 the variance equals eps: another eps shows.
@pytest.mark.parametrize('scale', [1, 1e-3])
def test_layer_norm_is_over_channels_with_eps_1e_6(scale):
    norm, x = drawn(LayerNorm2d(10)), randn(2, 10, 3, 5) * scale
    centred = x - x.mean(1, keepdim=True)
    expected = centred / (centred.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
    expected = expected * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected)


@pytest.mark.parametrize(
    ('name', 'cls', 'eps'), [('LN', nn.LayerNorm, 1e-6), ('BN', nn.BatchNorm2d, 1e-5)]
)
def test_norms_have_the_eps_of_the_original_code(name, cls, eps):
    norm = build_norm(name, 6)
    assert isinstance(norm, cls)
    assert norm.eps == eps
    assert norm.weight.shape == (6,)


@pytest.mark.parametrize(('height', 'width'), [(4, 7), (9, 2), (1, 5)])
def test_positions_follow_the_published_formula(height, width):
    encoding = drawn(PositionalEncodingFourier(12))

    def feature(position, last, index):
        angle = position / (last + 1e-6) * 2 * math.pi / 10000 ** (index // 2 * 2 / 32)
        return math.cos(angle) if index % 2 else math.sin(angle)

    features = torch.tensor(
        [
            [
                [feature(y, height, i) for i in range(32)]
                + [feature(x, width, i) for i in range(32)]
                for x in range(1, width + 1)
            ]
            for y in range(1, height + 1)
        ]
    )
    weight = encoding.token_projection.weight.flatten(1)
    expected = features @ weight.T + encoding.token_projection.bias
    torch.testing.assert_close(encoding(height, width)[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize(('height', 'width'), [(8, 8), (28, 40), (36, 24)])
@pytest.mark.parametrize('arguments', [dict(), dict(hidden_dim=8, temperature=100.0)])
def test_positions_agree_with_timm(height, width, arguments, timm_edgenext):
    encoding = drawn(PositionalEncodingFourier(12, **arguments))
    reference = timm_edgenext.PositionalEncodingFourier(dim=12, **arguments)
    reference.load_state_dict(encoding.state_dict())
    torch.testing.assert_close(encoding(height, width), reference((1, height, width)))


def test_positions_cached_in_inference_mode_can_be_used_in_training():
    # A temperature of its own, so that no other test has filled the cache.
    encoding = drawn(PositionalEncodingFourier(8, temperature=123.0))
    with torch.inference_mode():
        evaluated = encoding(5, 7)
    trained = encoding(5, 7)
    trained.sum().backward()
    torch.testing.assert_close(trained.detach(), evaluated)
    assert encoding.token_projection.weight.grad.count_nonzero() > 0


def test_positions_follow_the_dtype_of_the_weights():
    encoding = drawn(PositionalEncodingFourier(8))
    expected = encoding(3, 4)
    torch.testing.assert_close(encoding.double()(3, 4), expected.double(), rtol=0, atol=1e-5)


def test_a_parametrized_projection_is_computed_once_per_pass():
    """Each access of a weight with spectral_norm is a step of its power iteration."""

    class Counting(nn.Module):
        calls = 0

        def forward(self, weight):
            self.calls += 1
            return weight

    encoding, counting = PositionalEncodingFourier(8), Counting()
    nn.utils.parametrize.register_parametrization(encoding.token_projection, 'weight', counting)
    counting.calls = 0
    encoding(3, 4)
    assert counting.calls == 1


def naive_attention(layer, x):
    """The published formula, one sample and head at a time."""
    heads, outputs = layer.num_heads, []
    for tokens in layer.qkv(x):
        q, k, v = tokens.T.chunk(3)  # each (C, N)
        mixed = []
        for i, (qi, ki, vi) in enumerate(
            zip(q.chunk(heads), k.chunk(heads), v.chunk(heads), strict=True)
        ):
            attention = F.normalize(qi, dim=1) @ F.normalize(ki, dim=1).T
            mixed.append((attention * layer.temperature[i, 0, 0]).softmax(1) @ vi)
        outputs.append(torch.cat(mixed).T)
    return layer.proj(torch.stack(outputs))


@pytest.mark.parametrize(('dim', 'num_heads'), [(24, 4), (6, 1), (8, 8)])
@pytest.mark.parametrize('scale', [1, 100, 0])
def test_attention_follows_the_published_formula(dim, num_heads, scale):
    layer, x = drawn(CrossCovarianceAttention(dim, num_heads)), randn(2, 35, dim) * scale
    torch.testing.assert_close(layer(x), naive_attention(layer, x), rtol=1e-4, atol=1e-5)


# As many tokens as stage 2 has at 512x512: their sum of squares exceeds half precision and, with
# the larger factors, the norm of the tokens does, too.
@pytest.mark.parametrize('factor', [1, 100, 500])
@pytest.mark.parametrize('kind', ['queries', 'keys'])
def test_attention_in_half_precision_is_close_to_single_precision(kind, factor):
    layer, x = drawn(CrossCovarianceAttention(24, 4)), 8 * randn(1, 4096, 24)
    expected = layer(x)  # does not depend on the length of queries and keys
    rows = slice(0, 24) if kind == 'queries' else slice(24, 48)
    layer.qkv.weight.data[rows] *= factor
    layer.qkv.bias.data[rows] *= factor
    norms = layer.qkv(x)[..., rows].norm(dim=1)
    assert factor < 500 or norms.min() > torch.finfo(torch.half).max
    atol = 1e-2 * expected.abs().max().item()
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-3 * atol)
    torch.testing.assert_close(layer.half()(x.half()).float(), expected, rtol=0, atol=atol)


def test_attention_and_its_gradients_agree_with_timm(timm_edgenext):
    layer = drawn(CrossCovarianceAttention(24, 4))
    reference = timm_edgenext.CrossCovarianceAttn(24, 4, qkv_bias=True)
    reference.load_state_dict(layer.state_dict())
    x = randn(2, 35, 24)
    torch.testing.assert_close(layer(x), reference(x))
    for module in (layer, reference):
        module(x).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kernel_size', [3, 5, 7, 9])
@pytest.mark.parametrize('mlp_ratio', [4, 2.5])
def test_conv_encoder_agrees_with_timm(kernel_size, mlp_ratio, timm_edgenext):
    encoder = drawn(ConvEncoder(12, kernel_size, mlp_ratio=mlp_ratio))
    reference = timm_edgenext.ConvBlock(12, kernel_size=kernel_size, expand_ratio=mlp_ratio).eval()
    reference.load_state_dict(to_timm(encoder.state_dict()))
    x = randn(2, 12, 11, 14)
    torch.testing.assert_close(encoder(x), reference(x), rtol=1e-4, atol=1e-5)


# 100 channels in 3 groups: 34, 34 and 32.
@pytest.mark.parametrize(
    ('dim', 'num_heads', 'scales', 'pos_encoding'),
    [(48, 4, 2, True), (100, 4, 3, False), (168, 8, 4, False), (40, 1, 4, True)],
)
def test_sdta_encoder_agrees_with_timm(dim, num_heads, scales, pos_encoding, timm_edgenext):
    encoder = drawn(SDTAEncoder(dim, num_heads, scales, pos_encoding))
    reference = timm_edgenext.SplitTransposeBlock(dim, scales, num_heads, use_pos_emb=pos_encoding)
    reference.eval().load_state_dict(to_timm(encoder.state_dict()))
    x = randn(2, dim, 7, 10)
    torch.testing.assert_close(encoder(x), reference(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('cls', 'arguments'), [(ConvEncoder, (12, 5)), (SDTAEncoder, (12, 2, 3, False))]
)
@pytest.mark.parametrize('norm', ['LN', 'BN'])
def test_a_dilated_encoder_on_an_enlarged_map_gives_the_enlarged_output(cls, arguments, norm):
    plain = drawn(cls(*arguments, norm=norm))
    dilated = cls(*arguments, dilation=2, norm=norm).eval()
    dilated.load_state_dict(plain.state_dict())
    x = randn(2, 12, 6, 9)
    enlarged = F.interpolate(x, scale_factor=2)
    expected = F.interpolate(plain(x), scale_factor=2)
    torch.testing.assert_close(dilated(enlarged), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('cls', [ConvEncoder, SDTAEncoder])
def test_training_and_evaluation_agree_without_drop_path(cls):
    arguments = (12, 5) if cls is ConvEncoder else (12, 2, 3, True)
    encoder, x = drawn(cls(*arguments)), randn(2, 12, 6, 9)
    torch.testing.assert_close(encoder.train()(x), encoder.eval()(x))


def train_step(module, forward):
    """Output, gradients and buffers after a step."""
    x = randn(4, 12, 6, 9).requires_grad_()
    torch.manual_seed(0)
    output = forward(x)
    output.square().sum().backward()
    grads = {name: parameter.grad for name, parameter in module.named_parameters()}
    return output.detach(), x.grad, grads, dict(module.named_buffers())


@pytest.mark.parametrize(
    ('cls', 'arguments'), [(ConvEncoder, (12, 5)), (SDTAEncoder, (12, 2, 3, True))]
)
@pytest.mark.parametrize('norm', ['LN', 'BN', 'SyncBN', 'cumulative BN', 'frozen BN'])
@pytest.mark.parametrize('training', [True, False])
def test_recomputation_changes_nothing(cls, arguments, norm, training):
    plain = drawn(cls(*arguments, norm=norm[-2:], drop_path=0.5)).train(training)
    if norm == 'SyncBN':  # in one process; its statistics are updated by the same code in several
        plain = nn.SyncBatchNorm.convert_sync_batchnorm(plain)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d) and norm == 'cumulative BN':
            module.momentum = None
        if isinstance(module, nn.BatchNorm2d) and norm == 'frozen BN':
            module.eval()
    recomputed = deepcopy(plain)
    buffers = dict(recomputed.named_buffers())
    for _ in range(2):
        expected = train_step(plain, plain)
        actual = train_step(recomputed, lambda x: recompute(recomputed, x))
        torch.testing.assert_close(actual, expected)
    # DistributedDataParallel and moving averages hold references to the buffers.
    assert all(buffer is buffers[name] for name, buffer in recomputed.named_buffers())


def test_recomputation_counts_each_batch_once():
    norm, x = nn.BatchNorm2d(3, momentum=None), randn(4, 3, 5, 5).requires_grad_()
    for _ in range(2):
        recompute(norm, x).sum().backward()
    assert norm.num_batches_tracked == 2
    torch.testing.assert_close(norm.running_mean, x.detach().mean((0, 2, 3)))

"""A DeepLabv3 with the names of ml-cvnets, whose results are computed here."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from edgenext_mm import EdgeNeXt
from edgenext_mm.apis.model import load_model
from edgenext_mm.checkpoints.zoo import find_config
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError

CONFIG = find_config('deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512')
CHANNELS, CLASSES = 96, 21


def block(in_channels, out_channels, kernel_size=1, dilation=1, norm=True):
    """A convolution with the names of ml-cvnets."""
    padding = dilation * (kernel_size // 2)
    layers = nn.Sequential()
    layers.add_module(
        'conv',
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            bias=not norm,
        ),
    )
    if norm:
        layers.add_module('norm', nn.BatchNorm2d(out_channels))
        layers.add_module('act', nn.ReLU())
    return nn.ModuleDict(dict(block=layers))


def apply(module, x):
    return module['block'](x)


@pytest.fixture(scope='module')
def segmentor():
    """Encoder and head by name, with random weights and statistics."""
    torch.manual_seed(0)
    aspp = nn.ModuleDict(
        dict(
            convs=nn.ModuleList(
                [
                    block(168, CHANNELS),
                    *(block(168, CHANNELS, 3, dilation) for dilation in (6, 12, 18)),
                    nn.ModuleDict(
                        dict(aspp_pool=nn.ModuleDict(dict(conv_1x1=block(168, CHANNELS))))
                    ),
                ]
            ),
            project=block(5 * CHANNELS, CHANNELS),
        )
    )
    model = nn.ModuleDict(
        dict(
            encoder=EdgeNeXt('xxsmall', output_stride=16),
            seg_head=nn.ModuleDict(
                dict(
                    aspp=nn.ModuleDict(dict(aspp_layer=aspp)),
                    classifier=block(CHANNELS, CLASSES, norm=False),
                )
            ),
        )
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


@torch.no_grad()
def logits(model, x):
    """DeepLabv3 as ml-cvnets describes it: four branches and the pooled one, in this order."""
    x = model['encoder'](x)[0]
    aspp = model['seg_head']['aspp']['aspp_layer']
    *branches, pool = aspp['convs']
    pooled = apply(pool['aspp_pool']['conv_1x1'], x.mean((2, 3), keepdim=True))
    pooled = F.interpolate(pooled, x.shape[2:], mode='bilinear')
    x = torch.cat([*(apply(branch, x) for branch in branches), pooled], dim=1)
    return apply(model['seg_head']['classifier'], apply(aspp['project'], x))


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_results_are_those_of_the_file(prefix, segmentor, tmp_path):
    weights = {f'{prefix}{name}': value for name, value in segmentor.state_dict().items()}
    assert (
        f'{prefix}seg_head.aspp.aspp_layer.convs.4.aspp_pool.conv_1x1.block.conv.weight' in weights
    )
    torch.save(dict(model_state_dict=weights, epoch=49), tmp_path / 'deeplabv3.pt')
    model = load_model(load_config(CONFIG), tmp_path / 'deeplabv3.pt', device='cpu')
    x = torch.randn(1, 3, 96, 128)
    expected = logits(segmentor, x)
    with torch.no_grad():
        actual = model(x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_the_encoder_serves_as_a_backbone(segmentor, tmp_path):
    torch.save(segmentor.state_dict(), tmp_path / 'deeplabv3.pt')
    path = str(tmp_path / 'deeplabv3.pt')
    backbone = EdgeNeXt(init_cfg=dict(type='Pretrained', checkpoint=path))
    backbone.init_weights()
    torch.testing.assert_close(
        dict(backbone.state_dict()), dict(segmentor['encoder'].state_dict()), rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('encoder.stages.', 'encoder.layer_', r'unknown: downsample_layers.*encoder\.stages\.0'),
        ('convs.1.block.', 'convs.1.dw_conv.block.', 'separable convolutions'),
    ],
)
def test_what_cannot_be_mapped_is_refused(old, new, message, segmentor, tmp_path):
    weights = {name.replace(old, new): value for name, value in segmentor.state_dict().items()}
    torch.save(weights, tmp_path / 'deeplabv3.pt')
    with pytest.raises(UserError, match=message):
        load_model(load_config(CONFIG), tmp_path / 'deeplabv3.pt', device='cpu')

"""What other libraries expect of a model: memory formats, compilers, function transforms."""

import copy

import pytest
import torch
import torchvision.ops
from golden import draw_like, make_input
from mmcv import ops
from mmengine.config import Config
from paths import CONFIGS

from edgenext_mm import EdgeNeXt
from edgenext_mm.checkpoints.writing import write_hashed_checkpoint
from edgenext_mm.config import load_config
from edgenext_mm.deployment import switch_to_deploy
from edgenext_mm.deployment.form import LAYOUTS
from edgenext_mm.models.building import build_model

ALL = (0, 1, 2, 3)
TWO_STAGE = [path for path in CONFIGS if 'roi_head' in Config.fromfile(path).get('model', {})]
IMAGES = make_input(2, 64, 96)
# Both encoders and the positional encoding.
SMALL = dict(depths=(1, 1, 1, 1), dims=(8, 12, 16, 24), num_sdta=(0, 1, 0, 0))


def drawn(**arguments):
    """A backbone whose weights make all branches matter."""
    model = EdgeNeXt(**arguments)
    model.load_state_dict(draw_like(model.state_dict()))
    return model.eval()


# Memory.


@pytest.mark.parametrize('layout', [None, *LAYOUTS])
@pytest.mark.parametrize(
    'arguments',
    [dict(), dict(output_norms=True), dict(output_stride=8), dict(arch='xxsmall_bnhs')],
    ids=str,
)
@pytest.mark.parametrize('channels_last', [False, True])
def test_maps_and_weights_are_contiguous(arguments, layout, channels_last):
    model = drawn(out_indices=ALL, **arguments)
    if layout is not None:
        model = switch_to_deploy(model, layout)
    images = IMAGES
    if channels_last:  # as users do for speed on a GPU
        images = images.contiguous(memory_format=torch.channels_last)
    assert all(value.is_contiguous() for value in model.state_dict().values())
    with torch.no_grad():
        assert all(x.is_contiguous() for x in model(images))
    if layout is None:
        assert all(x.is_contiguous() for x in model.train()(images))


def rois_for(x, stride):
    """Boxes (image, x1, y1, x2, y2) that lie across a (B, C, H, W) map of a stride."""
    size = torch.tensor([x.shape[3], x.shape[2]]).repeat(2) * stride
    corners = torch.tensor([[0.1, 0.2, 0.6, 0.9], [0.3, 0.0, 1.0, 0.5], [0.45, 0.4, 0.6, 0.6]])
    image = torch.arange(len(corners))[:, None] % len(x)
    return torch.cat([image, corners * size], dim=1).float()


@pytest.mark.parametrize('deploys', [False, True])
@pytest.mark.parametrize('path', TWO_STAGE, ids=lambda path: path.stem)
@torch.no_grad()
def test_roi_features_of_two_stage_models_agree_with_torchvision(path, deploys):
    config = load_config(path, {'model.backbone.init_cfg': None})
    torch.manual_seed(0)
    model = build_model(config).eval()
    if deploys:
        model = switch_to_deploy(model)
    head, levels = model.roi_head, model.extract_feat(IMAGES)
    extractors = [head.bbox_roi_extractor]
    extractors += [head.mask_roi_extractor] * head.with_mask * (not head.share_roi_extractor)
    assert TWO_STAGE
    for extractor in extractors:
        for x, layer, stride in zip(
            levels, extractor.roi_layers, extractor.featmap_strides, strict=False
        ):
            rois = rois_for(x, stride)
            expected = torchvision.ops.roi_align(
                x.clone(memory_format=torch.contiguous_format),
                rois,
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
            assert expected.std() > 0
            torch.testing.assert_close(layer(x, rois), expected)


@pytest.mark.parametrize('layout', [None, 'channels_last'])
@torch.no_grad()
def test_operators_of_mmcv_agree_with_torchvision(layout):
    model = drawn(out_indices=(2,))
    x = (model if layout is None else switch_to_deploy(model, layout))(IMAGES)[0]
    B, C, H, W = x.shape
    same = x.clone(memory_format=torch.contiguous_format)
    rois = rois_for(x, 16)
    torch.manual_seed(0)

    # Against torchvision.
    torch.testing.assert_close(
        ops.RoIAlign(3, 1 / 16, 2)(x, rois),
        torchvision.ops.roi_align(same, rois, 3, 1 / 16, 2, aligned=True),
    )
    weight, offset = torch.randn(6, C, 3, 3), torch.randn(B, 18, H, W)
    torch.testing.assert_close(
        ops.deform_conv2d(x, offset, weight, 1, 1),
        torchvision.ops.deform_conv2d(same, offset, weight, padding=1),
        rtol=1e-4,
        atol=1e-4,
    )
    mask = torch.rand(B, 9, H, W)
    torch.testing.assert_close(
        ops.modulated_deform_conv2d(x, offset, mask, weight, None, 1, 1),
        torchvision.ops.deform_conv2d(same, offset, weight, padding=1, mask=mask),
        rtol=1e-4,
        atol=1e-4,
    )

    # A box that is not turned has the features of the upright one.
    centres, sizes = (rois[:, 1:3] + rois[:, 3:]) / 2, rois[:, 3:] - rois[:, 1:3]
    turned = torch.cat([rois[:, :1], centres, sizes, torch.zeros(len(rois), 1)], dim=1)
    torch.testing.assert_close(
        ops.RoIAlignRotated(3, 1 / 16, 2)(x, turned),
        torchvision.ops.roi_align(same, rois, 3, 1 / 16, 2, aligned=True),
    )
    boxes = torch.rand(B, H, W, 5) * 16
    torch.testing.assert_close(
        ops.rotated_feature_align(x, boxes, 1 / 16), ops.rotated_feature_align(same, boxes, 1 / 16)
    )
    assert x.view(B, -1).shape == (B, C * H * W)


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
def test_weights_are_saved_as_safetensors(arch, tmp_path):
    from safetensors.torch import load_file, save_file

    model = EdgeNeXt(arch)
    save_file(model.state_dict(), tmp_path / 'weights.safetensors')
    loaded = load_file(tmp_path / 'weights.safetensors')
    torch.testing.assert_close(loaded, dict(model.state_dict()), rtol=0, atol=0)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
    loaded = torch.load(tmp_path / 'weights.pth')['state_dict']
    save_file(loaded, tmp_path / 'again.safetensors')
    write_hashed_checkpoint(loaded, tmp_path / 'hashed.safetensors')


def test_lbfgs_which_flattens_weights_trains():
    torch.manual_seed(0)
    model = EdgeNeXt(layer_scale_init_value=0.3)
    optimizer, losses = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3), []

    def closure():
        optimizer.zero_grad()
        loss = model(IMAGES)[0].square().mean()
        loss.backward()
        losses.append(loss.item())
        return loss

    optimizer.step(closure)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('arch', ['xxsmall', 'xxsmall_bnhs'])
def test_gradients_have_the_strides_of_their_weights(arch):
    # Else distributed training warns, and copies.
    model = EdgeNeXt(arch, out_indices=ALL, output_norms=True)
    sum(x.square().mean() for x in model(IMAGES)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.stride() == parameter.stride(), name


# Compilers and function transforms.


def test_a_training_step_is_captured_in_one_graph():
    model = drawn(arch=SMALL).train()
    compiled = torch.compile(copy.deepcopy(model), backend='eager', fullgraph=True)
    for m in (model, compiled):
        m(IMAGES)[0].square().mean().backward()
    for expected, actual in zip(model.parameters(), compiled.parameters(), strict=True):
        scale = expected.grad.abs().max().item()
        torch.testing.assert_close(actual.grad, expected.grad, rtol=0, atol=1e-4 * scale)


def test_gradients_per_sample_and_directional_derivatives():
    model = drawn(arch=SMALL)
    weights = dict(model.named_parameters())

    def loss(weights, x):
        return torch.func.functional_call(model, weights, (x[None],))[0].square().sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, IMAGES)
    model(IMAGES)[0].square().sum().backward()
    for name, parameter in weights.items():
        scale = parameter.grad.abs().max().item()
        summed = per_sample[name].sum(0)
        torch.testing.assert_close(summed, parameter.grad, rtol=0, atol=1e-4 * scale)

    model = model.train().double()
    x, direction = IMAGES.double(), IMAGES.flip(0).double()
    _, slope = torch.func.jvp(lambda x: model(x)[0], (x,), (direction,))
    step = 1e-5
    with torch.no_grad():
        ahead, behind = model(x + step * direction)[0], model(x - step * direction)[0]
    expected = (ahead - behind) / (2 * step)
    torch.testing.assert_close(slope, expected, rtol=0, atol=1e-5 * expected.abs().max().item())

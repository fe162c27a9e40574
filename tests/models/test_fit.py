import pytest
import torch
from logs import logged
from paths import ROOT

from edgenext_mm.checkpoints.finding import check_pretrained
from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.models.fit import check_fit

CONFIGS = ROOT / 'configs'
GFL = 'detection/gfl_edgenext-xxsmall_fpn_digits.py'
SSDLITE = 'detection/ssdlite_edgenext-xxsmall_digits.py'
DEEPLAB = 'segmentation/deeplabv3_edgenext-xxsmall_4xb16-50e_voc12aug-512x512.py'
ROTATED = 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits.py'


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (GFL, r'returns maps of \[96, 160, 304\] .* model.neck \(FPN\) takes \[48, 88, 168\]'),
        (SSDLITE, r'maps of \[160, 304\] .* model.neck \(SSDLiteNeck\) takes \(88, 168\)'),
        (DEEPLAB, r'maps of \[304\] .* model.decode_head \(ASPPHead\) takes 168 at in_index=0'),
        (ROTATED, r'Set model.neck.in_channels=\[96, 160, 304\]'),
    ],
)
def test_channels_that_do_not_fit_are_errors(config, message):
    with pytest.raises(UserError, match=message):
        build_model(load_config(CONFIGS / config, {'model.backbone.arch': 'small'}))


@pytest.mark.parametrize('config', [GFL, DEEPLAB])
def test_a_pooled_backbone_is_refused_in_detectors_and_segmentors(config):
    with pytest.raises(UserError, match=r"has final_norm='pool_first'.* needs maps. Remove"):
        build_model(load_config(CONFIGS / config, {'model.backbone.final_norm': 'auto'}))


def test_a_head_that_takes_several_maps_is_checked():
    config = load_config(
        CONFIGS / 'segmentation/segformer_edgenext-small_4xb16-50e_voc12aug-512x512.py',
        {'model.backbone.arch': 'base'},
    )
    with pytest.raises(UserError, match=r'in_channels=\[80, 160, 288, 584\]'):
        build_model(config)


def test_missing_pretrained_weights_are_reported(tmp_path):
    config = load_config(CONFIGS / 'detection/gfl_edgenext-small_fpn_8xb2-1x_coco.py')
    with pytest.raises(
        UserError, match=r'model.backbone starts .*edgenext_small.pth could not be downloaded'
    ):
        check_pretrained(config.model)
    (tmp_path / 'weights.pth').touch()
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / 'weights.pth')
    check_pretrained(config.model)
    config.model.backbone.init_cfg = None
    check_pretrained(config.model)


# Models of upstream configs with our backbone.


def with_edgenext(tmp_path, base, out_indices=(1, 2, 3), **model):
    """The model of an upstream config, with an EdgeNeXt of 24, 48, 88 and 168 channels."""
    backbone = dict(
        _delete_=True, type='edgenext_mm.EdgeNeXt', arch='xxsmall', out_indices=out_indices
    )
    if 'mmseg' in base:
        model['pretrained'] = None
    path = tmp_path / 'config.py'
    path.write_text(
        f"_base_ = '{base}'\ncustom_imports = dict(imports=['edgenext_mm'])\n"
        f'model = {dict(backbone=backbone, **model)!r}\n'
    )
    return load_config(path)


YOLO = 'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py'
FCN = 'mmseg::_base_/models/fcn_r50-d8.py'
HEAD = dict(norm_cfg=dict(type='BN'), channels=8)


@pytest.mark.parametrize(
    ('base', 'model'),
    [
        # Deepest first.
        (YOLO, dict(neck=dict(in_channels=[168, 88, 48]))),
        # Several necks, one after the other.
        (
            'mmdet::libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py',
            dict(
                out_indices=(0, 1, 2, 3),
                neck=[
                    dict(type='FPN', in_channels=[24, 48, 88, 168], out_channels=256, num_outs=5),
                    dict(type='BFP', in_channels=256, num_levels=5, refine_type='conv'),
                ],
            ),
        ),
        # One map of those given, and channels by layer.
        (
            'mmdet::centernet/centernet_r18_8xb16-crop512-140e_coco.py',
            dict(neck=dict(in_channels=168, num_deconv_filters=(64, 64, 64))),
        ),
        # Maps put together.
        (
            FCN,
            dict(
                decode_head=dict(
                    in_channels=(48, 88), in_index=(0, 1), input_transform='resize_concat', **HEAD
                ),
                auxiliary_head=dict(in_channels=88, in_index=-2, **HEAD),
            ),
        ),
        # Heads by stage.
        (
            'mmseg::_base_/models/pointrend_r50.py',
            dict(
                out_indices=(0, 1, 2, 3),
                neck=dict(in_channels=[24, 48, 88, 168]),
            ),
        ),
    ],
    ids=['yolo', 'libra', 'centernet', 'concat', 'pointrend'],
)
def test_models_of_upstream_configs_pass(base, model, tmp_path):
    with logged() as lines:
        build_model(with_edgenext(tmp_path, base, **model))
    assert not [line for line in lines if 'not checked' in line]


@pytest.mark.parametrize(
    ('base', 'model', 'message'),
    [
        (YOLO, dict(), r'model\.neck\.in_channels=\[168, 88, 48\]'),
        (
            FCN,
            dict(decode_head=dict(in_channels=168, in_index=2, **HEAD)),
            r'model\.auxiliary_head \(FCNHead\) takes 1024 at in_index=2\. Set .*in_channels=168',
        ),
        (
            FCN,
            dict(decode_head=dict(in_channels=168, in_index=3, **HEAD)),
            r'model\.decode_head \(FCNHead\) takes the maps at in_index=3, but there are 3',
        ),
    ],
)
def test_errors_say_how_to_fix_the_config(base, model, message, tmp_path):
    config = with_edgenext(tmp_path, base, **model)
    config.checks = dict(channels=False)
    built = build_model(config)
    with pytest.raises(UserError, match=message):
        check_fit(built)


def test_an_unknown_check_is_refused():
    with pytest.raises(UserError, match=r'`checks` .*channels, .*strides, but is .*stride'):
        build_model(load_config(CONFIGS / GFL, {'checks': dict(stride=False)}))


# Strides: the maps of GFL are for anchors of 8 to 128 pixels.

MASK_RCNN = 'detection/mask-rcnn_edgenext-small_fpn_8xb2-1x_coco.py'


@pytest.mark.parametrize(
    ('config', 'options', 'message'),
    [
        (
            GFL,
            {
                'model.backbone.out_indices': (0, 1, 2, 3),
                'model.neck.in_channels': [24, 48, 88, 168],
            },
            r'bbox_head \(GFLHead\) is for maps of strides 8, 16, 32, 64, 128, but .* 4, 8, 16, 32',
        ),
        (
            GFL,
            {'model.backbone.output_stride': 16},
            r'strides 8, 16, 32, .* have strides 8, 16, 16, 32, 64',
        ),
        (ROTATED, {'model.backbone.output_stride': 16}, r'have strides 8, 16, 16, 32, 64'),
        (
            MASK_RCNN,
            {'model.roi_head.bbox_roi_extractor.featmap_strides': [8, 16, 32, 64]},
            r'model.roi_head.bbox_roi_extractor .* strides 8, 16, 32, 64, but .* 4, 8, 16, 32',
        ),
        (
            MASK_RCNN,
            {'model.rpn_head.anchor_generator.strides': [8, 16, 32, 64, 128]},
            r'model.rpn_head \(RPNHead\) is for maps of strides 8, .* 4, 8, 16, 32, 64',
        ),
    ],
)
def test_strides_that_do_not_fit_are_errors(config, options, message):
    options |= {'model.backbone.init_cfg': None, 'checks': dict(strides=False)}
    model = build_model(load_config(CONFIGS / config, options))
    with pytest.raises(UserError, match=message):
        check_fit(model)


def test_a_check_changes_nothing():
    """Norms keep their statistics and modules their modes."""
    model = build_model(load_config(CONFIGS / SSDLITE)).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [part.training for part in model.modules()]
    check_fit(model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert modes == [part.training for part in model.modules()]

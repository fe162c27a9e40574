import pytest
from paths import ROOT

from edgenext_mm.apis.cli import load_config
from edgenext_mm.apis.model import build_model, check_pretrained
from edgenext_mm.errors import UserError

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
def test_channels_that_disagree_are_named(config, message):
    with pytest.raises(UserError, match=message):
        build_model(load_config(CONFIGS / config, {'model.backbone.arch': 'small'}))


@pytest.mark.parametrize('config', [GFL, DEEPLAB])
def test_a_pooled_backbone_serves_classifiers_only(config):
    with pytest.raises(UserError, match=r"has final_norm='pool_first'.* needs maps. Leave"):
        build_model(load_config(CONFIGS / config, {'model.backbone.final_norm': 'auto'}))


def test_several_maps_into_one_head():
    config = load_config(
        CONFIGS / 'segmentation/segformer_edgenext-small_4xb16-50e_voc12aug-512x512.py',
        {'model.backbone.arch': 'base'},
    )
    with pytest.raises(UserError, match=r'in_channels=\[80, 160, 288, 584\]'):
        build_model(config)


def test_weights_to_start_from_that_are_not_there(tmp_path):
    config = load_config(CONFIGS / 'detection/gfl_edgenext-small_fpn_8xb2-1x_coco.py')
    with pytest.raises(UserError, match=r'model.backbone starts .*No source of edgenext_small'):
        check_pretrained(config.model)
    (tmp_path / 'weights.pth').touch()
    config.model.backbone.init_cfg.checkpoint = str(tmp_path / 'weights.pth')
    check_pretrained(config.model)
    config.model.backbone.init_cfg = None
    check_pretrained(config.model)

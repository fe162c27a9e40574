"""Exchange of a backbone, on configs as the libraries ship them."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from benchmarks.families import try_family, write_data
from edgenext_mm import EdgeNeXt
from edgenext_mm.apis.backbone_exchange import use_backbone
from edgenext_mm.config import load_config
from edgenext_mm.engine import LayerDecayOptimWrapperConstructor
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

#: Configs whose maps have all kinds of strides and channels, and the backbone that they get.
CONFIGS = {
    'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py': dict(out_indices=(0, 1, 2, 3)),
    'mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py': dict(out_indices=(1, 2, 3)),
    'mmdet::yolof/yolof_r50-c5_8xb8-1x_coco.py': dict(out_indices=(3,)),
    'mmdet::ssd/ssd300_coco.py': dict(out_indices=(1, 2)),
    'mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py': dict(out_indices=(0, 1, 2, 3)),
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py': dict(
        out_indices=(0, 1, 2, 3), output_stride=8
    ),
    'mmseg::icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py': dict(out_indices=(1, 2, 3)),
    'mmseg::ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py': dict(out_indices=(0, 1, 2, 3)),
    'mmrotate::rotated_rtmdet/rotated_rtmdet_tiny-3x-dota.py': dict(out_indices=(1, 2, 3)),
}
FCN = 'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py'


def exchanged(base, tmp_path, **options):
    """The config with EdgeNeXt-xxsmall."""
    path = tmp_path / 'mine.py'
    use_backbone(base, path, 'xxsmall', **options)
    return load_config(path)


@pytest.mark.parametrize('base', CONFIGS, ids=lambda base: base.split('/')[1][:20])
@torch.no_grad()
def test_maps_have_the_sizes_of_those_of_the_former_backbone(base, tmp_path):
    config = exchanged(base, tmp_path)
    backbone = config.model.backbone
    assert backbone.type == 'edgenext_mm.EdgeNeXt'
    assert {key: backbone[key] for key in CONFIGS[base]} == CONFIGS[base]
    assert backbone.init_cfg.checkpoint == 'edgenext-xxsmall_3rdparty_in1k'

    (tmp_path / 'former.py').write_text(f'_base_ = {base!r}\n')
    former = load_config(tmp_path / 'former.py').model.backbone
    init_default_scope(config.default_scope)
    network = MODELS.build({**former, 'init_cfg': None})
    network.eval()
    image = torch.randn(1, 3, 192, 256)
    model = build_model(config).eval()
    sizes = [x.shape[2:] for x in model.backbone(image)]
    # ICNet's layers without padding make maps smaller by one.
    expected = [x.shape[2:] for x in network(image)]
    tolerance = 1 if 'icnet' in base else 0
    for size, other in zip(sizes, expected, strict=True):
        assert max(abs(a - b) for a, b in zip(size, other, strict=True)) <= tolerance


def test_channels_are_exchanged_in_all_parts_that_take_the_maps(tmp_path):
    dims = [24, 48, 88, 168]

    def model(base):
        return exchanged(base, tmp_path).model

    yolo = model('mmdet::yolo/yolov3_d53_8xb8-320-273e_coco.py')
    assert yolo.neck.in_channels == [168, 88, 48]  # its neck takes the deepest map first
    ssd = model('mmdet::ssd/ssd300_coco.py')
    assert ssd.bbox_head.in_channels == ssd.neck.out_channels == (48, 88, 512, 256, 256, 256)
    assert ssd.bbox_head.type == 'edgenext_mm.SSDHead'  # mmdet's cannot predict
    plus = model('mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py')
    assert (plus.decode_head.in_channels, plus.decode_head.c1_in_channels) == (168, 24)
    assert plus.auxiliary_head.in_channels == 88
    ocr = model('mmseg::ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py')
    assert [head.in_channels for head in ocr.decode_head] == [dims, dims]
    knet = model('mmseg::knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py').decode_head
    assert knet.kernel_generate_head.in_channels == 168
    assert {head.in_channels for head in knet.kernel_update_head} == {512}  # not of the backbone
    fast = model('mmseg::fastfcn/fastfcn_r50-d32_jpu_aspp_4xb4-80k_ade20k-512x512.py')
    assert fast.neck.in_channels == (48, 88, 168)
    assert (fast.decode_head.in_channels, fast.auxiliary_head.in_channels) == (2048, 88)
    dyhead = model('mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py')
    assert [part.type for part in dyhead.neck] == ['FPN', 'DyHead']
    assert dyhead.neck[0].in_channels == dims
    teacher = model(
        'mmdet::soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py'
    )
    assert teacher.detector.neck.in_channels == dims
    assert teacher.data_preprocessor.data_preprocessor.mean == [123.675, 116.28, 103.53]
    assert teacher.detector.data_preprocessor.bgr_to_rgb is True


def test_a_network_of_stride_4_is_replaced_with_a_pyramid(tmp_path):
    base = 'mmdet::cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py'
    config = exchanged(base, tmp_path, weights=None)
    model = build_model(config).eval()
    with torch.no_grad():
        heats = model.bbox_head(model.extract_feat(torch.randn(1, 3, 128, 160)))[0]
    assert [x.shape for x in heats] == [(1, 80, 32, 40)]


def test_optimizer_and_normalisation_follow_the_backbone(tmp_path):
    fcos = 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
    config = exchanged(fcos, tmp_path)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-4, weight_decay=0.05)
    assert config.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)  # upstream's
    assert config.optim_wrapper.paramwise_cfg.bias_lr_mult == 2.0  # upstream's
    preprocessor = config.model.data_preprocessor
    assert (preprocessor.mean, preprocessor.bgr_to_rgb) == ([123.675, 116.28, 103.53], True)
    assert preprocessor.std == [58.395, 57.12, 57.375]
    kept = exchanged(fcos, tmp_path, keep_optimizer=True).optim_wrapper.optimizer
    assert (kept.type, kept.lr) == ('SGD', 0.01)


def test_layer_decay_uses_the_layers_of_edgenext(tmp_path):
    base = 'mmdet::convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py'
    wrapper = exchanged(base, tmp_path).optim_wrapper
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get(wrapper.constructor)
    assert constructor is LayerDecayOptimWrapperConstructor
    assert wrapper.paramwise_cfg.layer_decay_rate == 0.95


def test_a_written_config_can_be_inherited_and_is_relative(tmp_path):
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'configs' / 'theirs.py').write_text(f'_base_ = {FCN!r}\n')
    use_backbone(tmp_path / 'configs' / 'theirs.py', tmp_path / 'new' / 'mine.py', 'xsmall')
    text = (tmp_path / 'new' / 'mine.py').read_text()
    assert "_base_ = '../configs/theirs.py'" in text
    config = load_config(tmp_path / 'new' / 'mine.py')
    assert config.model.decode_head.in_channels == 192  # the last stage of xsmall
    assert isinstance(build_model(config).backbone, EdgeNeXt)
    assert config.runner_type == 'edgenext_mm.Runner'


@pytest.mark.parametrize(
    ('base', 'message'),
    [
        ('mmdet::faster_rcnn/faster-rcnn_r50-caffe_c4-1x_coco.py', 'shared_head .* with an FPN'),
        ('mmdet::tridentnet/tridentnet_r50-caffe_1x_coco.py', 'three branches in its ResNet'),
        ('mmdet::detectors/htc_r50-rfp_1x_coco.py', 'RFP feeds its maps back'),
        ('mmseg::pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py', 'each of its three branches'),
        ('mmseg::unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py', r'\[16, 8, 4, 2, 1\]'),
        ('mmseg::dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py', 'something else than maps'),
        ('mmdet::fcos/nothing.py', '^mmdet::fcos/nothing.py cannot be read as a config'),
        ('nowhere.py', 'does not exist'),
    ],
)
def test_what_cannot_be_exchanged_is_said_and_an_existing_file_stays(base, message, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text('earlier')
    with pytest.raises(UserError, match=message):
        use_backbone(base, path)
    assert path.read_text() == 'earlier'
    assert [p.name for p in tmp_path.iterdir()] == ['mine.py']


def test_a_config_does_not_inherit_itself(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f'_base_ = {FCN!r}\n')
    with pytest.raises(UserError, match='would inherit itself'):
        use_backbone(path, path)
    use_backbone(path, tmp_path / 'ours.py', weights=None)
    assert 'init_cfg' not in load_config(tmp_path / 'ours.py').model.backbone
    with pytest.raises(UserError, match='has EdgeNeXt already'):
        use_backbone(tmp_path / 'ours.py', tmp_path / 'again.py')


@pytest.fixture(scope='module')
def family_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('families')
    write_data(folder)
    return folder


@pytest.mark.parametrize(
    'base',
    [
        'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'mmrotate::rotated_fcos/rotated-fcos-le90_r50_fpn_1x_dota.py',
    ],
)
def test_families_train_resume_predict_and_are_exported(base, family_data):
    assert set(try_family(base, family_data).values()) == {'yes'}

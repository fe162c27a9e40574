"""Models of upstream's own configs with EdgeNeXt xxsmall, narrowed, with random weights."""

from importlib.util import find_spec
from pathlib import Path

import torch
from mmengine.config import Config
from small_models import built, config_of

WIDTHS = dict(
    channels=16,
    conv_out_channels=16,
    embed_dims=32,
    fc_out_channels=32,
    feat_channels=16,
    feedforward_channels=64,
    num_feats=16,
    out_channels=32,
)
FOUR, THREE, LAST = ((0, 1, 2, 3), (24, 48, 88, 168)), ((1, 2, 3), (48, 88, 168)), ((3,), (168,))
#: Config, and stages of the backbone with their channels.
DETECTORS = {
    'faster-rcnn': ('faster_rcnn/faster-rcnn_r50_fpn_1x_coco', FOUR),
    'mask-rcnn': ('mask_rcnn/mask-rcnn_r50_fpn_1x_coco', FOUR),
    'cascade-mask-rcnn': ('cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco', FOUR),
    'double-head-rcnn': ('double_heads/dh-faster-rcnn_r50_fpn_1x_coco', FOUR),
    'htc': ('htc/htc-without-semantic_r50_fpn_1x_coco', FOUR),
    'mask-scoring-rcnn': ('ms_rcnn/ms-rcnn_r50_fpn_1x_coco', FOUR),
    'detr': ('detr/detr_r50_8xb2-150e_coco', LAST),
    'conditional-detr': ('conditional_detr/conditional-detr_r50_8xb2-50e_coco', LAST),
    'dab-detr': ('dab_detr/dab-detr_r50_8xb2-50e_coco', LAST),
    'deformable-detr': ('deformable_detr/deformable-detr_r50_16xb2-50e_coco', THREE),
    'dino': ('dino/dino-4scale_r50_8xb2-12e_coco', THREE),
    'ddq-detr': ('ddq/ddq-detr-4scale_r50_8xb2-12e_coco', THREE),
    'mask2former': ('mask2former/mask2former_r50_8xb2-lsj-50e_coco', FOUR),
}  # fmt: skip
NUM_CLASSES = 10
PROPOSALS = dict(nms_pre=100, max_per_img=40)


def upstream_detector(name, folder, options=None):
    """Builds a detector of mmdet on images of 128x128 pixels with 10 classes."""
    file, (stages, channels) = DETECTORS[name]
    model = _read('mmdet', file)
    if 'neck' in model:
        _narrow(model)
    if 'encoder' in model:
        model.encoder.num_layers = model.decoder.num_layers = 1
        model.num_queries, model.bbox_head.embed_dims = 20, WIDTHS['embed_dims']
        model.test_cfg.max_per_img = 20
    if 'roi_head' in model:
        model.test_cfg.rpn.update(PROPOSALS)
    config = config_of('gfl')
    backbone, preprocessor = config.model.backbone, config.model.data_preprocessor
    backbone.update(out_indices=stages, layer_scale_init_value=1.0)
    config.model = {**model, 'backbone': backbone, 'data_preprocessor': preprocessor}
    if 'neck' in model:
        config.model.neck.in_channels = list(channels)
    config.merge_from_dict(options or {})
    return built(config, folder, prepare=spread)


def pointrend(folder):
    """Builds PointRend, a cascade of two heads, on images of 128x128 pixels."""
    model = _read('mmseg', '_base_/models/pointrend_r50')
    _narrow(model)
    config = config_of('segmentor')
    backbone, preprocessor = config.model.backbone, config.model.data_preprocessor
    stages, channels = FOUR
    backbone.update(out_indices=stages, layer_scale_init_value=1.0)
    backbone.pop('output_stride', None)
    model = {**model, 'backbone': backbone, 'data_preprocessor': preprocessor, 'pretrained': None}
    config.model = model
    model = config.model
    model.neck.in_channels = list(channels)
    for head in model.decode_head:
        head.num_classes = 11
    model.test_cfg.update(subdivision_num_points=200)
    return built(config, folder, prepare=spread)


def _read(library, file):
    folder = Path(find_spec(library).origin).parent / '.mim' / 'configs'
    return Config.fromfile(folder / f'{file}.py').model


def _narrow(part):
    """Sets the numbers of channels and classes everywhere in a config."""
    for key, value in part.items():
        if key == 'in_channels' and value == [256] * len(value if isinstance(value, list) else ()):
            part[key] = [WIDTHS['out_channels']] * len(value)
        elif isinstance(value, (dict, list)):
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    _narrow(inner)
        elif key == 'num_classes' and value > 2:
            part[key] = NUM_CLASSES
        elif key == 'in_channels' and value == 256:
            part[key] = WIDTHS['out_channels']
        elif key in WIDTHS:
            part[key] = WIDTHS[key]


def spread(model):
    """Draws weights so that boxes, scores and classes differ, without scores of nearly 0 or 1."""
    for name, weight in model.named_parameters():
        if name.startswith('backbone') or weight.ndim < 2:
            continue
        factor = 1.0
        for part, value in FACTORS.items():
            if part in name:
                factor = value
                break
        std = 1.0 if 'query' in name else factor / weight[0].numel() ** 0.5
        torch.nn.init.normal_(weight, std=std)
        if '_seg' in name:  # features are positive: otherwise one class has the largest sum
            weight.data -= weight.data.mean(1, keepdim=True)


FACTORS = {'rpn_cls': 0.3, 'rpn_reg': 0.15, 'fc_cls': 1.5, 'fc_reg': 0.8, 'reg_branches': 0.5}

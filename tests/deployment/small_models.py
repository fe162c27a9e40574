"""Small models of all tasks, with random weights that lead to different scores and classes."""

import math

import torch
from paths import ROOT

from edgenext_mm.apis.model import load_model
from edgenext_mm.config import load_config
from edgenext_mm.models.building import build_model

CONFIGS = {
    'classifier': 'classification/edgenext-xxsmall_digits',
    'ssdlite': 'detection/ssdlite_edgenext-xxsmall_digits',
    'gfl': 'detection/gfl_edgenext-xxsmall_fpn_digits',
    'segmentor': 'segmentation/deeplabv3_edgenext-xxsmall_digits',
    'rotated': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits',
}
#: A Conv. encoder, then three SDTA encoders; exports take time for each encoder.
TINY = dict(base='xxsmall', depths=(1, 1, 1, 1))

ANCHORS = dict(
    type='AnchorGenerator',
    ratios=[1.0],
    octave_base_scale=4,
    scales_per_octave=1,
    strides=[8, 16, 32, 64, 128],
)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32, 64, 128])
DELTAS = dict(type='DeltaXYWHBBoxCoder', target_stds=[0.1, 0.1, 0.2, 0.2])
STRIDES = dict(strides=[8, 16, 32, 64, 128])
COMMON = dict(
    num_classes=5,
    in_channels=16,
    feat_channels=16,
    stacked_convs=1,
    norm_cfg=dict(type='GN', num_groups=4),
)
#: Heads whose boxes a file can hold.
DECODED = {
    'retina': dict(type='RetinaHead', anchor_generator={**ANCHORS, 'ratios': [0.5, 1.0, 2.0]}),
    'gfl': dict(type='GFLHead', anchor_generator=ANCHORS),
    'fcos': dict(type='FCOSHead', norm_on_bbox=True, **STRIDES),
    'atss': dict(type='ATSSHead', anchor_generator=ANCHORS, bbox_coder=DELTAS),
    'autoassign': dict(type='AutoAssignHead', **STRIDES),
    'fsaf': dict(
        type='FSAFHead',
        reg_decoded_bbox=True,
        anchor_generator=ANCHORS,
        bbox_coder=dict(type='TBLRBBoxCoder', normalizer=4.0),
        loss_bbox=dict(type='IoULoss', eps=1e-6),
    ),
    'rtmdet': dict(
        type='RTMDetHead',
        anchor_generator=POINTS,
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='GIoULoss'),
        act_cfg=dict(type='ReLU'),
    ),
    'free-anchor': dict(type='FreeAnchorRetinaHead', anchor_generator=ANCHORS),
    'yolox': dict(type='YOLOXHead', strides=[8, 16, 32, 64, 128]),
}
#: Heads that override mmdet's prediction.
UNDECODED = {
    'paa': dict(type='PAAHead', anchor_generator=ANCHORS, bbox_coder=DELTAS, topk=9),
    'fovea': dict(type='FoveaHead', base_edge_list=[16, 32, 64, 128, 256], **STRIDES),
}


def config_of(name):
    """The config of a task, as a user would load it."""
    return load_config(ROOT / 'configs' / f'{CONFIGS[name]}.py')


def built(config, folder, prepare=None):
    """Builds a model with random weights, and loads it as if it had been trained.

    Args:
        config: A full config.
        folder: Folder for the weights.
        prepare: Changes the weights of the model.
    """
    torch.manual_seed(0)
    config.model.backbone.update(arch=TINY, init_cfg=None)
    model = build_model(config)
    for part in model.modules():  # so that classes differ between positions
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_var.uniform_(0.2, 2)
    if prepare:
        prepare(model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return load_model(config, folder / 'weights.pth', 'cpu')


def rotated_rtmdet(folder):
    """Builds a rotated detector that predicts distances and an angle."""
    config = config_of('rotated')
    points = dict(type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32])
    config.model.update(type='mmdet.RTMDet', train_cfg=None)
    config.model.neck.update(num_outs=3, add_extra_convs=False)
    config.model.bbox_head = dict(
        type='RotatedRTMDetSepBNHead',
        num_classes=10,
        in_channels=config.model.neck.out_channels,
        feat_channels=16,
        stacked_convs=1,
        angle_version='le90',
        anchor_generator=points,
        bbox_coder=dict(type='DistanceAnglePointCoder', angle_version='le90'),
        loss_cls=dict(type='mmdet.QualityFocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='edgenext_mm.RotatedIoULoss', mode='linear'),
        with_objectness=False,
        exp_on_reg=True,
        scale_angle=False,
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='SiLU'),
    )

    def prepare(model):
        spread(model)
        for part in model.bbox_head.rtm_cls:  # large scores would all be 1
            part.weight.data *= 0.1

    return built(config, folder, prepare)


def rotated_fcos(folder):
    """Builds a rotated detector with centreness and an angle."""
    config = config_of('rotated')
    config.model.update(type='mmdet.FCOS', train_cfg=None)
    config.model.bbox_head = dict(
        type='RotatedFCOSHead',
        **{**COMMON, 'in_channels': config.model.neck.out_channels, 'num_classes': 10},
        **STRIDES,
        norm_on_bbox=True,
        centerness_on_reg=True,
        bbox_coder=dict(type='DistanceAnglePointCoder', angle_version='le90'),
        loss_bbox=dict(type='edgenext_mm.RotatedIoULoss', mode='linear'),
        loss_angle=None,
    )
    return built(config, folder, prepare=spread)


def task_model(name, folder):
    """Builds a model of a task that detects something."""
    if name == 'rotated-fcos':
        return rotated_fcos(folder)
    if name == 'rotated-rtmdet':
        return rotated_rtmdet(folder)
    config = config_of(name)
    if name != 'rotated':
        return built(config, folder)
    config.model.bbox_head.stacked_convs = 1

    def prepare(model):
        torch.nn.init.constant_(model.bbox_head.retina_cls.bias, -2.0)
        torch.nn.init.normal_(model.bbox_head.retina_cls.weight, std=0.1)

    return built(config, folder, prepare)


def spread(model, bias=-1.5):
    """Draws the weights of a head so that boxes and scores differ from each other."""
    for name, part in model.bbox_head.named_modules():
        if isinstance(part, torch.nn.Conv2d):
            fan_in = part.weight[0].numel()
            factor = 0.5 if 'reg' in name else 1.5
            torch.nn.init.normal_(part.weight, std=factor / math.sqrt(fan_in))
            if part.bias is not None:
                torch.nn.init.constant_(part.bias, bias if 'cls' in name else 0.1)


def detector(head, folder, options=None):
    """Builds a detector with a head of mmdet."""
    config = config_of('gfl')
    config.model.backbone.layer_scale_init_value = 1.0
    config.model.neck.out_channels = 16
    config.model.update(type='SingleStageDetector', train_cfg=None)
    config.model.bbox_head = {**COMMON, **head}
    config.model.test_cfg = dict(
        nms_pre=300, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6),
        max_per_img=100,
    )  # fmt: skip
    config.merge_from_dict(options or {})
    return built(config, folder, prepare=spread)

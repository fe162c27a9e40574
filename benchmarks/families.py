"""Try EdgeNeXt in the models of mmdet, mmseg and mmrotate, and write the table of what works.

Each family's own config gets EdgeNeXt-xxsmall by tools/use_backbone.py. Its images become small,
and its data digit scenes in the format that it asks for; everything else stays. The model trains
four steps, resumes, predicts and is exported to ONNX. Where EdgeNeXt fails, the config is run with
its own backbone as well. Takes about two hours on two cores; an interrupted run continues.

Examples:
    python -m benchmarks.families                          # all
    python -m benchmarks.families fcos rotated_atss        # families whose name contains a text
    python -m benchmarks.families --update docs/families.md
"""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from tqdm import tqdm

from edgenext_mm import load_model
from edgenext_mm.apis.backbone_exchange import use_backbone
from edgenext_mm.apis.inference import inference_model
from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.handwritten_digits import write_digits
from edgenext_mm.datasets.image_pipeline import input_shape
from edgenext_mm.datasets.scenes import SceneSettings, write_digit_scenes
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import images_in, normalised_images
from edgenext_mm.deployment.exporter import default_parts
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.files import replacing
from edgenext_mm.requirements import import_task_library

from .documents import markdown_table, update_table
from .generated_data import shrink, with_generated_data

RECORDS = Path(__file__).parent / 'records' / 'families.json'
#: A config of each family; mmdet's and mmseg's other folders are backbones, data sets or trackers.
FAMILIES = {
    'mmdet': (
        'atss/atss_r50_fpn_1x_coco.py',
        'autoassign/autoassign_r50-caffe_fpn_1x_coco.py',
        'boxinst/boxinst_r50_fpn_ms-90k_coco.py',
        'carafe/faster-rcnn_r50_fpn-carafe_1x_coco.py',
        'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py',
        'cascade_rpn/cascade-rpn_faster-rcnn_r50-caffe_fpn_1x_coco.py',
        'centernet/centernet_r18_8xb16-crop512-140e_coco.py',
        'centernet/centernet-update_r50-caffe_fpn_ms-1x_coco.py',
        'centripetalnet/centripetalnet_hourglass104_16xb6-crop511-210e-mstest_coco.py',
        'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py',
        'conditional_detr/conditional-detr_r50_8xb2-50e_coco.py',
        'convnext/mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py',
        'cornernet/cornernet_hourglass104_8xb6-210e-mstest_coco.py',
        'crowddet/crowddet-rcnn_r50_fpn_8xb2-30e_crowdhuman.py',
        'dab_detr/dab-detr_r50_8xb2-50e_coco.py',
        'ddod/ddod_r50_fpn_1x_coco.py',
        'ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py',
        'deformable_detr/deformable-detr_r50_16xb2-50e_coco.py',
        'detectors/htc_r50-rfp_1x_coco.py',
        'detr/detr_r50_8xb2-150e_coco.py',
        'dino/dino-4scale_r50_8xb2-12e_coco.py',
        'double_heads/dh-faster-rcnn_r50_fpn_1x_coco.py',
        'dyhead/atss_r50_fpn_dyhead_1x_coco.py',
        'dynamic_rcnn/dynamic-rcnn_r50_fpn_1x_coco.py',
        'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'foveabox/fovea_r50_fpn_4xb4-1x_coco.py',
        'fpg/mask-rcnn_r50_fpg_crop640-50e_coco.py',
        'free_anchor/freeanchor_r50_fpn_1x_coco.py',
        'fsaf/fsaf_r50_fpn_1x_coco.py',
        'gfl/gfl_r50_fpn_1x_coco.py',
        'ghm/retinanet_r50_fpn_ghm-1x_coco.py',
        'grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco.py',
        'groie/mask-rcnn_r50_fpn_groie_1x_coco.py',
        'guided_anchoring/ga-retinanet_r50_fpn_1x_coco.py',
        'htc/htc-without-semantic_r50_fpn_1x_coco.py',
        'htc/htc_r50_fpn_1x_coco.py',
        'lad/lad_r50-paa-r101_fpn_2xb8_coco_1x.py',
        'ld/ld_r18-gflv1-r101_fpn_1x_coco.py',
        'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco.py',
        'mask2former/mask2former_r50_8xb2-lsj-50e_coco.py',
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'maskformer/maskformer_r50_ms-16xb1-75e_coco.py',
        'ms_rcnn/ms-rcnn_r50_fpn_1x_coco.py',
        'nas_fcos/nas-fcos_r50-caffe_fpn_nashead-gn-head_4xb4-1x_coco.py',
        'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco.py',
        'paa/paa_r50_fpn_1x_coco.py',
        'pafpn/faster-rcnn_r50_pafpn_1x_coco.py',
        'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py',
        'pisa/faster-rcnn_r50_fpn_pisa_1x_coco.py',
        'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco.py',
        'queryinst/queryinst_r50_fpn_1x_coco.py',
        'reppoints/reppoints-moment_r50_fpn_1x_coco.py',
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        'rpn/rpn_r50_fpn_1x_coco.py',
        'rtmdet/rtmdet_tiny_8xb32-300e_coco.py',
        'rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py',
        'sabl/sabl-retinanet_r50_fpn_1x_coco.py',
        'scnet/scnet_r50_fpn_1x_coco.py',
        'soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py',
        'solo/solo_r50_fpn_1x_coco.py',
        'solov2/solov2_r50_fpn_1x_coco.py',
        'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco.py',
        'ssd/ssd300_coco.py',
        'ssd/ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py',
        'tood/tood_r50_fpn_1x_coco.py',
        'tridentnet/tridentnet_r50-caffe_1x_coco.py',
        'vfnet/vfnet_r50_fpn_1x_coco.py',
        'yolact/yolact_r50_1xb8-55e_coco.py',
        'yolo/yolov3_d53_8xb8-320-273e_coco.py',
        'yolof/yolof_r50-c5_8xb8-1x_coco.py',
        'yolox/yolox_tiny_8xb8-300e_coco.py',
    ),
    'mmseg': (
        'ann/ann_r50-d8_4xb4-80k_ade20k-512x512.py',
        'apcnet/apcnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'bisenetv1/bisenetv1_r18-d32_4xb4-160k_cityscapes-1024x1024.py',
        'bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024.py',
        'ccnet/ccnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'cgnet/cgnet_fcn_4xb8-60k_cityscapes-512x1024.py',
        'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
        'danet/danet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py',
        'deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py',
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py',
        'dmnet/dmnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'dnlnet/dnl_r50-d8_4xb4-80k_ade20k-512x512.py',
        'dpt/dpt_vit-b16_8xb2-160k_ade20k-512x512.py',
        'emanet/emanet_r50-d8_4xb2-80k_cityscapes-512x1024.py',
        'encnet/encnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py',
        'fastfcn/fastfcn_r50-d32_jpu_aspp_4xb4-80k_ade20k-512x512.py',
        'fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py',
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
        'gcnet/gcnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'hrnet/fcn_hr18_4xb4-80k_ade20k-512x512.py',
        'icnet/icnet_r18-d8_4xb2-80k_cityscapes-832x832.py',
        'isanet/isanet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py',
        'mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py',
        'maskformer/maskformer_r50-d32_8xb2-160k_ade20k-512x512.py',
        'mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py',
        'nonlocal_net/nonlocal_r50-d8_4xb4-80k_ade20k-512x512.py',
        'ocrnet/ocrnet_hr18_4xb4-80k_ade20k-512x512.py',
        'pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py',
        'point_rend/pointrend_r50_4xb4-160k_ade20k-512x512.py',
        'psanet/psanet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py',
        'san/san-vit-b16_coco-stuff164k-640x640.py',
        'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py',
        'segmenter/segmenter_vit-s_mask_8xb1-160k_ade20k-512x512.py',
        'segnext/segnext_mscan-t_1xb16-adamw-160k_ade20k-512x512.py',
        'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
        'setr/setr_vit-l_pup_8xb2-160k_ade20k-512x512.py',
        'stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
        'unet/unet-s5-d16_fcn_4xb4-160k_cityscapes-512x1024.py',
        'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
        'vit/vit_deit-s16_upernet_8xb2-160k_ade20k-512x512.py',
    ),
    'mmrotate': (
        'cfa/cfa-qbox_r50_fpn_1x_dota.py',
        'convnext/rotated-retinanet-rbox-le90_convnext-tiny_fpn_kld-stable_adamw-1x_dota.py',
        'csl/rotated-retinanet-rbox-le90_r50_fpn_csl-gaussian_amp-1x_dota.py',
        'gliding_vertex/gliding-vertex-rbox_r50_fpn_1x_dota.py',
        'gwd/rotated-retinanet-hbox-oc_r50_fpn_gwd_1x_dota.py',
        'h2rbox/h2rbox-le90_r50_fpn_adamw-1x_dota.py',
        'h2rbox_v2/h2rbox_v2-le90_r50_fpn-1x_dota.py',
        'kfiou/roi-trans-le90_r50_fpn_kfiou-ln_1x_dota.py',
        'kld/rotated-retinanet-hbox-oc_r50_fpn_kld_1x_dota.py',
        'oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota.py',
        'oriented_reppoints/oriented-reppoints-qbox_r50_fpn_1x_dota.py',
        'psc/rotated-fcos-hbox-le90_r50_fpn_psc-dual_1x_dota.py',
        'r3det/r3det-oc_r50_fpn_1x_dota.py',
        'redet/redet-le90_re50_refpn_1x_dota.py',
        'roi_trans/roi-trans-le90_r50_fpn_1x_dota.py',
        'rotated_atss/rotated-atss-le90_r50_fpn_1x_dota.py',
        'rotated_faster_rcnn/rotated-faster-rcnn-le90_r50_fpn_1x_dota.py',
        'rotated_fcos/rotated-fcos-le90_r50_fpn_1x_dota.py',
        'rotated_reppoints/rotated-reppoints-qbox_r50_fpn_1x_dota.py',
        'rotated_retinanet/rotated-retinanet-rbox-le90_r50_fpn_1x_dota.py',
        'rotated_rtmdet/rotated_rtmdet_tiny-3x-dota.py',
        's2anet/s2anet-le135_r50_fpn_1x_dota.py',
        'sasm_reppoints/sasm-reppoints-qbox_r50_fpn_1x_dota.py',
    ),
}
#: Columns of the table: the keys of a record, with their names.
COLUMNS = dict(trains='trains', resumes='resumes', predicts='predicts', exports='exports to ONNX')
#: Side of the images in pixels.
IMAGE_SIZE = 128
#: Sides for configs whose paths contain a text: SSD's anchors are made for images of one size, and
#: mmcv's deformable convolutions need maps of 3x3 cells, also at a stride of 128.
IMAGE_SIZES = {
    'ssd300': 300,
    'ssdlite': 320,
    'lraspp': 512,  # it pools over 49 cells
    **dict.fromkeys(('ddod', 'nas_fcos', 'reppoints', 's2anet', 'tood', 'vfnet'), 384),
}
#: Largest number of queries, and of boxes before and after NMS.
MAX_BOXES = 100
#: Seconds after which a family has failed.
TIMEOUT = 900


# One family.


def shrunk(config: Config, data: Path, folder: Path, size: int = IMAGE_SIZE) -> Config:
    """The config on generated data, without initial weights, with two epochs of two steps.

    Args:
        config: The config.
        data: Folder of digits and scenes.
        folder: Where to write them in the format that the config asks for.
        size: Largest side of the images in pixels. Default: :data:`IMAGE_SIZE`.
    """
    config = copy.deepcopy(config)
    is_crowd = config.model.get('type') == 'CrowdDet'  # it samples 512 boxes
    _simplify(config.model, 1000 if is_crowd else MAX_BOXES)
    config = with_generated_data(config, data / 'scenes', data / 'digits', folder)
    config = shrink(config, size)
    config.auto_scale_lr = dict(enable=False, base_batch_size=16)
    config.load_from = None
    for split in ('train', 'val', 'test'):
        config[f'{split}_dataloader'].update(
            batch_size=2, num_workers=0, persistent_workers=False, batch_sampler=None
        )
    if config.val_evaluator.get('type') == 'DOTAMetric':  # it starts four processes each time
        config.val_evaluator = dict(type='edgenext_mm.RotatedBoxMetric')
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=2, val_interval=2)
    config.param_scheduler = [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=4)]
    config.optim_wrapper.update(type='OptimWrapper', accumulative_counts=1)
    config.optim_wrapper.pop('loss_scale', None)
    config.default_hooks.checkpoint = dict(type='CheckpointHook', interval=1)
    config.custom_hooks = []
    config.randomness = dict(seed=0)
    config.log_level = 'ERROR'
    return config


def _simplify(part: Any, max_boxes: int) -> None:
    """Makes a model without downloads whose few steps take little time and change all weights."""
    for inner in part.values() if isinstance(part, dict) else part:
        if isinstance(inner, (dict, list, tuple)):
            _simplify(inner, max_boxes)
    if not isinstance(part, dict):
        return
    if dict.get(part.get('init_cfg') or {}, 'type') == 'Pretrained':
        part['init_cfg'] = None
    for key in ('pretrained', 'teacher_ckpt'):
        if isinstance(part.get(key), str):
            part[key] = None
    # Models that know nothing find as many boxes as allowed.
    for key in ('nms_pre', 'max_per_img', 'num_queries'):
        if isinstance(part.get(key), int) and part[key] > 0:
            part[key] = min(part[key], max_boxes)
    if part.get('type') == 'edgenext_mm.EdgeNeXt':
        part['layer_scale_init_value'] = 1.0  # with 1e-6, some gradients are too small for a step


def train(config: Config, folder: Path, resume: bool = False) -> torch.nn.Module:
    """Trains, and returns the model; its weights changed in all stages of the backbone."""
    config = copy.deepcopy(config)
    config.work_dir, config.experiment_name = str(folder), f'{folder.parent.name}-{folder.name}'
    config.resume = resume
    DefaultScope.get_instance('start', scope_name=config.default_scope)
    check_data(config, 'train', 'val')
    runner = build_runner(config)
    before = {name: p.detach().clone() for name, p in runner.model.named_parameters()}
    runner.train()
    unchanged = [
        name
        for name, p in runner.model.named_parameters()
        if 'backbone.stages' in name and p.requires_grad and torch.equal(p, before[name])
    ]
    if unchanged and 'teacher' not in unchanged[0]:
        raise UserError(f'{len(unchanged)} weights did not change, the first is {unchanged[0]}.')
    return runner.model


def _trains(config: Config, folder: Path) -> dict[str, torch.Tensor]:
    return copy.deepcopy(train(config, folder / 'whole').state_dict())


def _resumes(config: Config, folder: Path, expected: dict[str, torch.Tensor]) -> None:
    short = copy.deepcopy(config)
    short.train_cfg.update(max_epochs=1, val_interval=2)
    train(short, folder / 'parts')
    state = train(config, folder / 'parts', resume=True).state_dict()
    differ = [name for name, value in state.items() if not torch.equal(value, expected[name])]
    if differ:
        raise UserError(f'{len(differ)} weights differ, the first is {differ[0]}.')


def _predicts(config: Config, folder: Path, image: Path) -> torch.nn.Module:
    model = load_model(config, folder / 'whole' / 'epoch_2.pth')
    inference_model(model, image)
    return model


def _exports(model: torch.nn.Module, folder: Path, data: Path) -> str:
    """Exports a model: detectors with their boxes if a file can hold them, else raw outputs."""
    size = input_shape(model.cfg)
    images = list(normalised_images(model, images_in(data / 'scenes/val/images', 2), size))
    reason = ''
    try:
        include = default_parts(model)
    except UserError as error:
        include, reason = (), f'raw outputs only: {error}'
    export(model, folder / 'model.onnx', 'onnx', size, include=include, images=images)
    return reason or 'yes'


def try_family(
    base: str, data: Path, own_backbone: bool = False, exports: bool = True
) -> dict[str, str]:
    """Runs a family and returns, for each of :data:`COLUMNS`, ``yes`` or the error.

    Args:
        base: The config, ``LIBRARY::NAME``.
        data: Folder of digits and scenes.
        own_backbone: Whether to keep the backbone of the config. Default: False.
        exports: Whether to export it, which takes longer than all the rest. Default: True.
    """
    record = dict.fromkeys(COLUMNS, 'not tried')
    with tempfile.TemporaryDirectory(prefix='family-') as name:
        folder = Path(name)
        path = folder / 'config.py'

        def attempt(step: str, call: Callable[[], Any]) -> Any:
            """Runs a step; its result is recorded if it is a text, else ``yes``, or its error."""
            try:
                result = call()
                record[step] = _short(result, folder) if isinstance(result, str) else 'yes'
                return result
            except Exception as error:  # models fail in many ways, and all are to be listed
                if not isinstance(error, UserError):
                    traceback.print_exc()
                kind = '' if isinstance(error, UserError) else f'{type(error).__name__}: '
                record[step] = _short(f'{kind}{error}'.replace(str(path), base), folder)

        def start() -> Config:
            if own_backbone:
                path.write_text(f'_base_ = {base!r}\nrunner_type = "edgenext_mm.Runner"\n')
            else:
                use_backbone(base, path, 'xxsmall', weights=None)
            sizes = [size for text, size in IMAGE_SIZES.items() if text in base]
            return shrunk(load_config(path), data, folder / 'data', *sizes[:1])

        config = attempt('trains', start)
        state = attempt('trains', lambda: _trains(config, folder)) if config else None
        if state is None or own_backbone:
            return record
        attempt('resumes', lambda: _resumes(config, folder, state))
        image = next((data / 'scenes/val/images').iterdir())
        model = attempt('predicts', lambda: _predicts(config, folder, image))
        if exports and model is not None:
            attempt('exports', lambda: _exports(model, folder, data))
    return record


def _short(text: str, folder: Path) -> str:
    """A text for the table: one line without the paths of this machine."""
    text = ' '.join(text.split()).partition(', the current sys.path')[0]
    return re.sub(r'/\S*/site-packages/', '', text.replace(f'{folder}/', ''))[:300]


# All families.


def run_family(base: str, data: Path, **options: bool) -> dict[str, str]:
    """Runs a family in a process of its own, since some libraries change global settings."""
    context = multiprocessing.get_context('fork')  # the libraries are imported once
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_record, args=(sender, base, data), kwargs=options)
    process.start()
    sender.close()
    failed = dict.fromkeys(COLUMNS, 'not tried')
    try:
        if receiver.poll(TIMEOUT):
            return receiver.recv()
        return failed | dict(trains=f'no end after {TIMEOUT} s')
    except EOFError:
        process.join()
        return failed | dict(trains=f'stopped with exit code {process.exitcode}')
    finally:
        process.kill()
        process.join()


def _send_record(sender: Connection, base: str, data: Path, **options: bool) -> None:
    log = (data / 'log.txt').open('a')
    for stream in (sys.stdout, sys.stderr):
        os.dup2(log.fileno(), stream.fileno())
    sender.send(try_family(base, data, **options))


def run_families(names: list[str], data: Path, exports: bool = True) -> None:
    """Runs the families whose names contain one of the texts, all by default."""
    write_data(data)
    records = read_records()
    bases = [f'{library}::{path}' for library, paths in FAMILIES.items() for path in paths]
    chosen = [base for base in bases if any(name in base for name in names)]
    if not names:
        chosen = [base for base in bases if _is_open(records.get(base), exports)]
    for library in FAMILIES:
        import_task_library(library)
    for base in tqdm(chosen, unit='family'):
        record = run_family(base, data, exports=exports)
        if record['trains'] != 'yes':
            record['own backbone'] = run_family(base, data, own_backbone=True)['trains']
        records = {**read_records(), base: record}
        with replacing(RECORDS) as temporary:
            Path(temporary).write_text(json.dumps(records, indent=1) + '\n')
        tqdm.write(f'{base}: {record}')


def _is_open(record: dict[str, str] | None, exports: bool) -> bool:
    return record is None or (
        exports and record['predicts'] == 'yes' and record['exports'] == 'not tried'
    )


def write_data(folder: Path) -> None:
    """Writes digits and digit scenes, unless they exist."""
    write_digit_scenes(
        folder / 'scenes', SceneSettings(num_train=4, num_val=2, size=IMAGE_SIZE, max_digits=3)
    )
    write_digits(folder / 'digits')


def read_records() -> dict[str, dict[str, str]]:
    """The records by config."""
    return json.loads(RECORDS.read_text()) if RECORDS.is_file() else {}


def table(library: str) -> str:
    """The table of the families of a library with EdgeNeXt that train."""
    notes: list[str] = []

    def cell(text: str) -> str:
        if text in ('yes', 'not tried'):
            return text
        if text not in notes:
            notes.append(text)
        kind = 'raw' if text.startswith('raw outputs only') else 'no'
        return f'{kind} ({notes.index(text) + 1})'

    rows = [
        [f'`{path}`', *(cell(record[key]) for key in COLUMNS)]
        for path, record in _of(library)
        if record['trains'] == 'yes'
    ]
    lines = [markdown_table(['config', *COLUMNS.values()], rows)]
    lines += [f'({i}) {text}' for i, text in enumerate(notes, 1)]
    return '\n\n'.join(lines)


def failures() -> str:
    """The table of the families that do not train, with the reason with either backbone."""
    rows = [
        [f'`{library}::{path}`', record['trains'], record.get('own backbone', '')]
        for library in FAMILIES
        for path, record in _of(library)
        if record['trains'] != 'yes'
    ]
    return markdown_table(['config', 'with EdgeNeXt', 'with its own backbone'], rows)


def _of(library: str) -> Iterator[tuple[str, dict[str, str]]]:
    records = read_records()
    for path in FAMILIES[library]:
        if f'{library}::{path}' in records:
            yield path, records[f'{library}::{path}']


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('names', nargs='*', help='parts of names (default: all without a record)')
    parser.add_argument('--work', default='work_dirs/families', help='folder of the data')
    parser.add_argument('--update', metavar='FILE', help='write the tables into this document')
    parser.add_argument('--no-export', action='store_true', help='train, resume and predict only')
    args = parser.parse_args()
    if args.update:
        for library in FAMILIES:
            update_table(args.update, library, table(library))
        update_table(args.update, 'failures', failures())
    else:
        run_families(args.names, Path(args.work), not args.no_export)


if __name__ == '__main__':
    main()

"""Files of two-stage detectors and detection transformers find what their models find."""

import numpy as np
import onnx
import pytest
import torch
from mmdet.structures import DetDataSample
from upstream_models import upstream_detector

from edgenext_mm import inference_model
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import default_images
from edgenext_mm.deployment.exporter import default_parts
from edgenext_mm.deployment.final_boxes import RegionNetwork, with_standard_layers
from edgenext_mm.errors import UserError
from edgenext_mm.runtime import load
from edgenext_mm.runtime.boxes import NO_SCORE, pasted

SIZE = (128, 128)
THRESHOLD = 0.1


def photographs():
    """Square parts of photographs, which are not padded."""
    first, second = default_images()
    return [first[:400, :400], second[:300, 100:400]]


def assert_same_objects(actual, expected):
    """Boxes within 0.01 pixels of an image of 128 pixels, scores within 1e-4, in one order."""
    assert len(actual['scores']) == len(expected['scores']) > 5
    assert actual['labels'].tolist() == expected['labels'].tolist()
    np.testing.assert_allclose(actual['scores'], expected['scores'], atol=1e-4)
    np.testing.assert_allclose(actual['bboxes'], expected['bboxes'], atol=0.03)
    assert ('masks' in actual) == ('masks' in expected)
    if 'masks' in expected:
        assert 0.01 < expected['masks'].mean() < 0.9
        assert (actual['masks'] != expected['masks']).mean() < 1e-4


@torch.no_grad()
@pytest.mark.parametrize('changes', [{}, {'class_agnostic': True}, {'iou_threshold': 0.3}])
@pytest.mark.parametrize('name', ['faster-rcnn', 'cascade-mask-rcnn', 'double-head-rcnn'])
def test_two_stage_networks_give_the_boxes_of_the_model(name, changes, tmp_path, images_for):
    options = {f'model.test_cfg.rcnn.nms.{key}': value for key, value in changes.items()}
    model = upstream_detector(name, tmp_path, options)
    meta = dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0), batch_input_shape=SIZE)
    image = images_for(model)[0][..., :128, :128]
    image = torch.nn.functional.pad(image, (0, 128 - image.shape[-1], 0, 128 - image.shape[-2]))
    (sample,) = model(image, [DetDataSample(metainfo=meta)], mode='predict')
    expected = sample.pred_instances
    outputs = RegionNetwork(model)(image)
    boxes, scores, labels, *masks = (part[0] for part in outputs)
    exist = scores > NO_SCORE
    assert len(expected) == exist.sum() > 5
    assert len(set(expected.labels.tolist())) > 1
    torch.testing.assert_close(boxes[exist], expected.bboxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(scores[exist], expected.scores, atol=1e-5, rtol=0)
    assert torch.equal(labels[exist], expected.labels)
    if masks:
        masks, boxes = masks[0][exist].numpy(), boxes[exist].numpy()
        found = pasted(masks, boxes, SIZE, model.roi_head.test_cfg.mask_thr_binary)
        assert (found != expected.masks.numpy()).mean() < 1e-4
    # mmcv's layers against torchvision's.
    for actual, before in zip(
        RegionNetwork(with_standard_layers(model))(image), outputs, strict=True
    ):
        torch.testing.assert_close(actual, before, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ('name', 'file_format', 'include'),
    [('mask-rcnn', 'onnx', ('preprocess', 'nms')), ('dino', 'openvino', ('decode',))],
)
def test_files_find_the_objects_of_the_model(name, file_format, include, tmp_path, images_for):
    model = upstream_detector(name, tmp_path)
    path = tmp_path / ('model.onnx' if file_format == 'onnx' else 'model.xml')
    images = images_for(model)[:1]
    deviations = export(model, path, file_format, SIZE, include=include, images=images)
    names = ['boxes', 'scores', 'masks'] if name == 'mask-rcnn' else ['boxes', 'scores']
    assert [d.output for d in deviations] == names
    if file_format == 'onnx':
        assert {node.domain for node in onnx.load(path).graph.node} == {''}
    run = load(path)
    for image in photographs():
        expected = inference_model(model, image, score_thr=THRESHOLD)
        assert_same_objects(run(image, score_thr=THRESHOLD), expected)
        assert_same_objects(inference_model(path, image, score_thr=THRESHOLD), expected)


@pytest.mark.parametrize(
    ('name', 'arguments', 'message'),
    [
        ('mask-rcnn', dict(file_format='torch-export', include=('nms',)),
         r'MaskRCNN cannot be exported as torch-export: .*Use --format onnx or openvino, or a'),
        ('mask-rcnn', dict(include=()), r'runs NMS between its stages.*use --include nms'),
        ('detr', dict(include=()), r'final boxes without NMS.*use --include decode'),
        ('detr', dict(include=('decode', 'nms')), r'final boxes without NMS'),
        ('detr', dict(include=('decode',), dynamic=('batch',)), r'--dynamic is not possible'),
        ('detr', dict(include=('decode',), precision='fp16'), r'need fp32: use --precision fp32'),
        ('htc', dict(include=('nms',)), r'its HybridTaskCascadeRoIHead has a `predict'),
        ('mask-scoring-rcnn', dict(include=('nms',)), r'its MaskScoringRoIHead has a `predict_'),
        ('ddq-detr', dict(include=('decode',)), r'DDQDETR'),
        ('mask2former', dict(include=('decode',)), r'Mask2Former cannot be exported: it has none'),
    ],
)  # fmt: skip
def test_what_a_file_cannot_hold_is_refused_at_once(name, arguments, message, tmp_path):
    (tmp_path / 'weights').mkdir()
    model = upstream_detector(name, tmp_path / 'weights')
    arguments = {'file_format': 'onnx', **arguments}
    with pytest.raises(UserError, match=message):
        export(model, tmp_path / 'files' / 'model', shape=SIZE, **arguments)
    assert not (tmp_path / 'files').exists()


@pytest.mark.parametrize(('name', 'parts'), [('mask-rcnn', ('nms',)), ('detr', ('decode',))])
def test_the_parts_that_a_file_needs_are_the_default(name, parts, tmp_path):
    assert default_parts(upstream_detector(name, tmp_path)) == parts


def test_masks_are_pasted_as_by_torch():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 28, 28, generator=generator)
    boxes = torch.tensor(
        [[3.2, 5.1, 40.7, 30.9], [-4.0, 10.0, 20.0, 70.0], [50.0, 40.0, 52.0, 41.0]]
    )
    height, width = 48, 60
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    x = (x - boxes[:, :1]) / (boxes[:, 2:3] - boxes[:, :1]) * 2 - 1
    y = (y - boxes[:, 1:2]) / (boxes[:, 3:] - boxes[:, 1:2]) * 2 - 1
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[..., None].expand(-1, -1, width)], -1)
    expected = torch.nn.functional.grid_sample(masks[:, None], grid, align_corners=False)[:, 0]
    actual = pasted(masks.numpy(), boxes.numpy(), (height, width), 0.4)
    assert 0.02 < actual.mean() < 0.6
    assert (actual != (expected >= 0.4).numpy()).mean() < 1e-4

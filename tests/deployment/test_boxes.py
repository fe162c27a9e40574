"""Files give the boxes that mmdet's own ``predict`` gives."""

import copy

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures import DetDataSample
from mmengine.structures import BaseDataElement
from onnx import numpy_helper
from small_models import DECODED, UNDECODED, detector, task_model
from torchvision.ops import batched_nms

from edgenext_mm.deployment import ExportedModel, export
from edgenext_mm.deployment.boxes import BoxNetwork, DecodedNetwork
from edgenext_mm.deployment.verify import _compare_boxes, check_deviations, compare
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.boxes import NO_SCORE, select

SIZE = (128, 128)
#: Sizes of images without padding, and the factors by which they were resized.
IMAGES = (((128, 96), (0.4, 0.5)), ((80, 128), (1.5, 1.25)))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('boxes')


def padded_batch():
    """Two images of different shapes, padded to one size, and their data samples."""
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for size, scale in IMAGES:
        image = torch.randn(1, 3, *size, generator=generator)
        images.append(F.pad(image, (0, SIZE[1] - size[1], 0, SIZE[0] - size[0])))
        original = tuple(round(s / f) for s, f in zip(size, scale[::-1], strict=True))
        meta = dict(img_shape=size, scale_factor=scale, ori_shape=original, batch_input_shape=SIZE)
        samples.append(DetDataSample(metainfo=meta))
    return torch.cat(images), samples


def assert_same_boxes(actual, expected):
    """Compares boxes as sets."""
    assert len(actual.scores) == len(expected.scores) > 5
    distance = np.abs(rows_of(actual)[:, None] - rows_of(expected)[None]).max(2)
    for column in range(distance.shape[1]):
        nearest = distance[:, column].argmin()
        assert distance[nearest, column] < 0.01
        distance[nearest] = np.inf


def rows_of(found):
    """(N, 6) corners, scores and labels, scaled to be comparable."""
    columns = (found.bboxes, 100 * found.scores[:, None], 1000 * found.labels[:, None])
    # Random weights let PAA's voting divide 0 by 0.
    return torch.cat(columns, dim=1).nan_to_num(-1e4).numpy()


@torch.no_grad()
@pytest.mark.parametrize('name', [*DECODED, 'ssdlite'])
def test_every_head_gives_the_boxes_of_its_own_predict(name, folder):
    model = task_model(name, folder) if name == 'ssdlite' else detector(DECODED[name], folder)
    settings = model.bbox_head.test_cfg
    if name == 'yolox':
        settings.max_per_img = 10**6  # it keeps all boxes
    images, samples = padded_batch()
    for i, sample in enumerate(samples):
        height, width = sample.img_shape
        # Without padding: the clipping to the image is in the file, not in this network.
        image = images[i : i + 1, :, : height // 32 * 32, : width // 32 * 32]
        sample.set_metainfo(dict(img_shape=tuple(image.shape[-2:]), scale_factor=(1.0, 1.0)))
        (expected,) = model(image, [sample], mode='predict')
        boxes, scores, labels = (part[0] for part in BoxNetwork(model)(image))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(1) & (scores != NO_SCORE)
        boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
        kept = batched_nms(boxes, scores, labels, settings.nms.iou_threshold)
        kept = kept[: settings.max_per_img]
        actual = expected.pred_instances.new(
            bboxes=boxes[kept], scores=scores[kept], labels=labels[kept]
        )
        assert_same_boxes(actual, expected.pred_instances)


@torch.no_grad()
def test_rotated_fcos_gives_the_boxes_of_its_own_predict(folder, images_for):
    """With centreness, angle and rotated NMS, which the runtime computes."""
    model = task_model('rotated-fcos', folder)
    image = images_for(model)[0][..., :, :64]
    size = tuple(image.shape[-2:])
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0), batch_input_shape=size)
    (expected,) = model(image, [DetDataSample(metainfo=meta)], mode='predict')
    network = DecodedNetwork(model)
    network.count_boxes(image)
    boxes, scores, factors = (part[0].numpy() for part in network(image))
    found = select(boxes, scores, factors, network.selection, size, size, (1.0, 1.0))
    actual = expected.pred_instances.new(
        bboxes=torch.from_numpy(found.boxes),
        scores=torch.from_numpy(found.scores),
        labels=torch.from_numpy(found.labels),
    )
    assert len(set(found.labels.tolist())) > 1
    assert_same_boxes(actual, expected.pred_instances)


@pytest.mark.parametrize(
    ('head', 'options', 'message'),
    [
        (UNDECODED['paa'], {}, 'its PAAHead overrides `predict_by_feat`'),
        (UNDECODED['fovea'], {}, 'its FoveaHead overrides `'),
        (DECODED['yolox'], {'nms.type': 'soft_nms'}, r'`test_cfg\.nms` is .*soft_nms'),
        (DECODED['fcos'], {'nms.type': 'soft_nms'}, r'`test_cfg\.nms` is .*soft_nms'),
        (DECODED['fcos'], {'nms_pre': -1}, r'`test_cfg\.nms_pre` is -1; set a positive number'),
        (DECODED['fcos'], {'max_per_img': -1}, r'`test_cfg\.max_per_img` is -1'),
    ],
)
def test_what_a_file_cannot_reproduce_is_refused(head, options, message, folder, tmp_path):
    settings = {f'model.test_cfg.{key}': value for key, value in options.items()}
    model = detector(head, folder, settings)
    with pytest.raises(UserError, match=rf'(?s){message}.*Export the raw outputs of the head'):
        export(model, tmp_path / 'model', 'onnx', SIZE, include=('decode', 'nms'))
    assert list(tmp_path.iterdir()) == []


def test_a_subclass_that_overrides_a_step_is_refused(folder, tmp_path):
    model = detector(DECODED['fcos'], folder)

    class OwnHead(type(model.bbox_head)):
        def _bbox_post_process(self, *args, **kwargs):
            return super()._bbox_post_process(*args, **kwargs)

    model.bbox_head.__class__ = OwnHead
    with pytest.raises(UserError, match=r'its OwnHead overrides `_bbox_post_process`'):
        export(model, tmp_path / 'model', 'onnx', SIZE, include=('decode', 'nms'))


# Files.


@pytest.fixture(scope='module')
def atss(folder):
    """A detector with score factors that drops small boxes, and its file."""
    model = detector(DECODED['atss'], folder, {'model.test_cfg.min_bbox_size': 25})
    export(model, folder / 'atss', 'onnx', SIZE, ('batch',), include=('decode', 'nms'))
    return model, folder / 'atss.onnx'


def predict_with(exported, images, samples):
    with torch.no_grad():
        return [s.pred_instances for s in exported.shell(images, samples, mode='predict')]


def test_padded_images_give_the_boxes_of_the_model(atss):
    model, path = atss
    operators = {(n.domain, n.op_type) for n in onnx.load(path).graph.node}
    assert ('', 'NonMaxSuppression') in operators
    assert {domain for domain, _ in operators} == {''}
    images, samples = padded_batch()
    with torch.no_grad():
        expected = [s.pred_instances for s in model(*padded_batch(), mode='predict')]
    for a, e in zip(predict_with(ExportedModel(path), images, samples), expected, strict=True):
        assert_same_boxes(a, e)
        assert e.bboxes[:, 2:].sub(e.bboxes[:, :2]).min() > 25
    # The size of an image and its factor matter: without them, there are other boxes.
    boxes = ExportedModel(path).session(images)
    assert sum(len(e.scores) for e in expected) != len(boxes[0])


@torch.no_grad()
def test_an_openvino_file_gives_the_boxes_of_the_model(folder):
    """Of one image at a time, without the filter for small boxes; all inputs need values."""
    model = detector(DECODED['gfl'], folder, {'model.test_cfg.min_bbox_size': -1})
    images, samples = padded_batch()
    deviations = export(
        model,
        folder / 'gfl',
        'openvino',
        SIZE,
        include=('decode', 'nms'),
        images=[images[:1]],
        bound=1e-4,
    )
    assert [d.output for d in deviations] == ['boxes', 'scores']
    expected = [s.pred_instances for s in model(*padded_batch(), mode='predict')]
    exported = ExportedModel(folder / 'gfl.xml')
    for a, e in zip(predict_with(exported, images, samples), expected, strict=True):
        assert_same_boxes(a, e)


def test_scores_that_tie_are_no_deviation(atss, tmp_path):
    """Of boxes with one score, a file may keep others than the model, and in another order."""
    model, path = atss
    graph = onnx.load(path)
    (classes,) = (w for w in graph.graph.initializer if w.name.endswith('atss_cls.weight'))
    zeros = np.zeros_like(numpy_helper.to_array(classes))
    classes.CopyFrom(numpy_helper.from_array(zeros, classes.name))
    onnx.save(graph, tmp_path / 'ties.onnx')
    untrained = copy.deepcopy(model)
    torch.nn.init.zeros_(untrained.bbox_head.atss_cls.weight)
    images = [padded_batch()[0][:1]]
    metadata = ExportedModel(path).metadata
    deviations = compare(BoxNetwork(untrained), tmp_path / 'ties.onnx', images, metadata)
    check_deviations(deviations, 'fp32')
    # The boxes of another model are not mistaken for ties.
    deviations = compare(BoxNetwork(model), tmp_path / 'ties.onnx', images, metadata)
    with pytest.raises(UserError, match='deviates from the model'):
        check_deviations(deviations, 'fp32')


class Results:
    """Stands for a file whose boxes are known."""

    def __init__(self, **fields):
        sample = BaseDataElement(pred_instances=BaseDataElement(**fields))
        self.shell = lambda image, samples, mode: [sample]


@torch.no_grad()
@pytest.mark.parametrize(
    ('change', 'output'),
    [
        (lambda boxes, scores, labels: (boxes, scores, labels), None),
        (lambda boxes, scores, labels: (boxes[::2], scores[::2], labels[::2]), 'scores'),
        (lambda boxes, scores, labels: (boxes[:0], scores[:0], labels[:0]), 'scores'),
        (lambda *parts: tuple(part[[0, 0, *range(1, len(part))]] for part in parts), 'scores'),
        (lambda boxes, scores, labels: (boxes, scores * 0.99, labels), 'scores'),
        (lambda boxes, scores, labels: (boxes + 1, scores, labels), 'boxes'),
        (lambda boxes, scores, labels: (boxes, scores, (labels + 1) % 5), 'boxes'),
    ],
    ids=['same', 'missing', 'none', 'twice', 'other scores', 'moved', 'other labels'],
)
def test_wrong_boxes_are_deviations(change, output, atss):
    model, _ = atss
    image, (sample, _) = padded_batch()
    image = image[:1]
    sample.set_metainfo(dict(img_shape=SIZE, ori_shape=SIZE, scale_factor=(1.0, 1.0)))
    found = model(image, [sample], mode='predict')[0].pred_instances
    boxes, scores, labels = change(found.bboxes, found.scores, found.labels)
    file = Results(bboxes=boxes, scores=scores, labels=labels)
    deviations = _compare_boxes(BoxNetwork(model), file, image, 1e-4)
    wrong = [deviation.output for deviation in deviations if not deviation.relative <= 1e-4]
    assert output in wrong if output else not wrong


@pytest.mark.parametrize('name', ['fcos', 'paa', 'yolox'])
def test_raw_heads_lead_to_the_same_boxes(name, folder):
    model = detector({**DECODED, **UNDECODED}[name], folder)
    export(model, folder / name, 'torchscript', SIZE)
    exported = ExportedModel(folder / f'{name}.torchscript')
    images, samples = padded_batch()
    with torch.no_grad():
        expected = [s.pred_instances for s in model(*padded_batch(), mode='predict')]
    for a, e in zip(predict_with(exported, images, samples), expected, strict=True):
        assert_same_boxes(a, e)

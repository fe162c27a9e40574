import copy
import math

import numpy as np
import pytest
import shapely
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from paths import ROOT
from rotated_boxes import corners, reference

from edgenext_mm.errors import UserError

STRIDES = (8, 16, 32, 64, 128)
NUM_CLASSES = 3
WIDTH = 8


def head_config(**changes):
    """The head of the configs, narrow."""
    model = Config.fromfile(ROOT / 'configs/_base_/models/rotated_gfl_edgenext_fpn.py').model
    head = copy.deepcopy(model.bbox_head)
    head.update(train_cfg=model.train_cfg, test_cfg=model.test_cfg)
    head.update(
        num_classes=NUM_CLASSES,
        in_channels=WIDTH,
        feat_channels=WIDTH,
        stacked_convs=1,
        norm_cfg=dict(type='GN', num_groups=2),
    )
    head.update(changes)
    return head


def build_head(seed=0, **changes):
    """A head with weights that give varied boxes and scores."""
    from mmrotate.registry import MODELS

    import edgenext_mm.models.heads.rotated_gfl_head  # noqa: F401

    init_default_scope('mmrotate')
    torch.manual_seed(seed)
    head = MODELS.build(head_config(**changes))
    head.init_weights()
    for conv in (head.retina_reg, head.retina_cls):
        torch.nn.init.normal_(conv.weight, std=0.3)
        torch.nn.init.normal_(conv.bias, std=1)
    return head.eval()


def features(size=128, batch=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(batch, WIDTH, size // stride, size // stride, generator=generator)
        for stride in STRIDES
    )


def instances(boxes, labels):
    from mmrotate.structures.bbox import RotatedBoxes

    return InstanceData(
        bboxes=RotatedBoxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)),
        labels=torch.tensor(labels, dtype=torch.long),
    )


def meta(size=128, **changes):
    shape = dict(img_shape=(size, size), pad_shape=(size, size), ori_shape=(size, size))
    return dict(shape, scale_factor=(1.0, 1.0), **changes)


def numpy_anchors(size=128):
    """(N, 5) anchors of an image: a square of four strides around each place's first pixel."""
    boxes = []
    for stride in STRIDES:
        for row in range(size // stride):
            for column in range(size // stride):
                boxes.append([column * stride, row * stride, 4 * stride, 4 * stride, 0])
    return np.array(boxes, np.float64)


def numpy_boxes(logits, anchors):
    """(N, 5) boxes from (N, 45) logits, by the published description."""
    logits = logits.astype(np.float64).reshape(-1, 5, 9)
    weights = np.exp(logits - logits.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    values = np.stack([np.linspace(-2, 2, 9)] * 4 + [np.linspace(-5, 2, 9)])
    x, y, w, h, angle = (weights * values).sum(2).T
    angle = angle * math.pi
    # Longest side along angles from -45 to 135 degrees.
    angle = np.mod(angle + math.pi / 4, math.pi) - math.pi / 4
    size = anchors[:, 2]
    return np.stack(
        [anchors[:, 0] + x * size, anchors[:, 1] + y * size, size * np.exp(w), size * np.exp(h),
         angle],
        axis=1,
    )  # fmt: skip


def flat(maps, image):
    """(places of all levels, channels) of one image, in NumPy."""
    rows = [m[image].permute(1, 2, 0).flatten(0, 1) for m in maps]
    return torch.cat(rows).detach().numpy()


def tower_outputs(head, x):
    """Scores and logits, before they become expectations."""
    from mmrotate.models import RotatedRetinaHead

    outputs = [RotatedRetinaHead.forward_single(head, level) for level in x]
    return tuple(zip(*outputs, strict=True))


def test_boxes_are_those_of_the_published_description():
    head, x = build_head(), features()
    _, deltas = head(x)
    _, logits = tower_outputs(head, x)
    sizes = [m.shape[-2:] for m in deltas]
    priors = head.prior_generator.grid_priors(sizes, device='cpu')
    for image in range(2):
        boxes = [
            head.bbox_coder.decode(prior, d[image].permute(1, 2, 0).reshape(-1, 5)).tensor
            for prior, d in zip(priors, deltas, strict=True)
        ]
        expected = numpy_boxes(flat(logits, image), numpy_anchors())
        actual = torch.cat(boxes).detach().numpy()
        assert np.ptp(expected[:, 4]) > 2
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


def test_deltas_of_a_half_precision_head_are_in_single_precision():
    head = build_head().to(torch.bfloat16)
    scores, deltas = head([level.to(torch.bfloat16) for level in features()])
    assert {m.dtype for m in deltas} == {torch.float32}
    assert [m.shape for m in deltas] == [(2, 5, 128 // s, 128 // s) for s in STRIDES]
    assert [m.shape[1] for m in scores] == [NUM_CLASSES] * 5


def test_expectations_stay_exact_under_autocast():
    head, x = build_head(), features(batch=1)
    with torch.autocast('cpu', torch.bfloat16):
        _, deltas = head(x)
        _, logits = tower_outputs(head, x)
    assert {m.dtype for m in deltas} == {torch.float32}
    assert {m.dtype for m in logits} == {torch.bfloat16}
    expected = numpy_boxes(flat([m.float() for m in logits], 0), numpy_anchors())
    moved = expected[:, :2] - numpy_anchors()[:, :2]
    np.testing.assert_allclose(
        flat(deltas, 0)[:, :2] * numpy_anchors()[:, 2:3], moved, rtol=1e-4, atol=1e-3
    )


def test_ranges_and_number_of_values_have_an_effect():
    head = build_head(reg_max=4, delta_range=(-1, 1), angle_range=(0, 8))
    expected = torch.tensor([[-1, -0.5, 0, 0.5, 1]] * 4 + [[0, 2, 4, 6, 8]])
    torch.testing.assert_close(head.values, expected)
    assert head.retina_reg.out_channels == 25
    assert 'values' not in head.state_dict()


def test_several_anchors_per_position_have_different_deltas():
    anchors = dict(head_config().anchor_generator, scales_per_octave=3)
    head, x = build_head(anchor_generator=anchors), features()
    _, deltas = head(x)
    _, logits = tower_outputs(head, x)
    second = numpy_boxes(flat([m[:, 45:90] for m in logits], 0), numpy_anchors())
    np.testing.assert_allclose(
        flat([m[:, 5:7] for m in deltas], 0) * numpy_anchors()[:, 2:3],
        second[:, :2] - numpy_anchors()[:, :2],
        rtol=1e-4,
        atol=1e-3,
    )


# Deltas whose angles meet the ends of the range, are within it, and turns away from it.
@pytest.mark.parametrize(
    'delta', [-5, -4.25, -2.3, -1.25, -0.2500001, -0.25, -0.2499999, 0, 0.5, 0.7499999, 0.75, 2]
)
def test_angles_are_long_edge_135(delta):
    head = build_head()
    # Between two neighbouring values, in the proportion that makes delta the expectation.
    values = np.linspace(-5, 2, 9)
    low = min(int(np.searchsorted(values, delta, side='right')) - 1, 7)
    share = np.clip((delta - values[low]) / (values[low + 1] - values[low]), 1e-30, 1)
    logits = torch.full((45,), -1e4)
    logits[[4, 13, 22, 31]] = 0
    logits[36 + low], logits[36 + low + 1] = math.log(max(1 - share, 1e-30)), math.log(share)
    head.retina_reg.weight.data.zero_()
    head.retina_reg.bias.data = logits
    _, deltas = head(features())
    prior = head.prior_generator.grid_priors([m.shape[-2:] for m in deltas], device='cpu')[0]
    box = head.bbox_coder.decode(prior, deltas[0][0].permute(1, 2, 0).reshape(-1, 5)).tensor[0]
    angle = box[4].item()
    assert -math.pi / 4 - 1e-5 <= angle < 3 * math.pi / 4 + 1e-5
    turns = (angle - delta * math.pi) / math.pi
    assert turns == pytest.approx(round(turns), abs=1e-5)
    torch.testing.assert_close(box[2:4], torch.tensor([32.0, 32.0]))


def test_the_box_loss_is_continuous_where_angles_wrap():
    head = build_head()
    target = torch.tensor([[0.0, 0, 40, 10, -math.pi / 4]])
    prior = torch.tensor([[0.0, 0, 32, 32, 0]])
    sides = [math.log(40 / 32), math.log(10 / 32)]
    losses = [
        head.loss_bbox(head.bbox_coder.decode(prior, torch.tensor([[0, 0, *sides, d]])), target)
        for d in (-0.2501, -0.25, -0.2499, 0.7499, 0.75, 0.7501)
    ]
    assert max(loss.item() for loss in losses) < 5e-3


def numpy_atss(boxes, size=128, topk=9):
    """The object (or -1) of each anchor and the IoUs: nearest anchors of each level, then those
    whose IoU reaches mean plus standard deviation and whose centre is inside."""
    anchors = numpy_anchors(size)
    ious = np.stack([reference(anchors, np.tile(box, (len(anchors), 1))) for box in boxes], 1)
    polygons = shapely.polygons(corners(boxes))
    owner, best = np.full(len(anchors), -1), np.full(len(anchors), -1.0)
    for index, box in enumerate(boxes):
        candidates, start = [], 0
        for stride in STRIDES:
            count = (size // stride) ** 2
            centres = anchors[start : start + count, :2]
            order = np.argsort(((centres - box[:2]) ** 2).sum(1), kind='stable')
            candidates += list(start + order[:topk])
            start += count
        values = ious[candidates, index]
        threshold = values.mean() + values.std(ddof=1)
        for anchor in candidates:
            inside = polygons[index].contains(shapely.Point(anchors[anchor, :2]))
            iou = ious[anchor, index]
            if inside and iou >= threshold and iou > best[anchor]:
                owner[anchor], best[anchor] = index, iou
    return owner


def targets_of(head, batch, metas, size=128):
    sizes = [(size // stride, size // stride) for stride in STRIDES]
    anchors, flags = head.get_anchors(sizes, metas, device='cpu')
    before = [[len(level) for level in image] for image in anchors]
    *targets, average = head.get_targets(anchors, flags, batch, metas)
    assert [[len(level) for level in image] for image in anchors] == before
    return [torch.cat(levels, 1) for levels in targets], average


@pytest.mark.parametrize('seed', range(2))
def test_targets_are_those_of_atss_on_rotated_iou(seed):
    # Random places: no two anchors are equally far from an object.
    rng = np.random.default_rng(seed)
    boxes = np.column_stack(
        [rng.uniform(20, 108, (6, 2)), rng.uniform(12, 70, (6, 2)), rng.uniform(-0.7, 2.3, 6)]
    ).astype(np.float32).astype(np.float64)  # fmt: skip
    names = rng.integers(0, NUM_CLASSES, 6)
    truth = [instances(boxes, names), instances(boxes[:1], names[:1])]
    (labels, label_weights, targets, weights), average = targets_of(
        build_head(), truth, [meta(), meta()]
    )
    total = 0
    for image, count in enumerate((6, 1)):
        owner = numpy_atss(boxes[:count])
        assigned = owner >= 0
        assert assigned.sum() >= count
        total += assigned.sum()
        expected = np.where(assigned, names[owner], NUM_CLASSES)
        np.testing.assert_array_equal(labels[image], expected)
        np.testing.assert_allclose(targets[image][assigned], boxes[owner[assigned]], rtol=1e-6)
        np.testing.assert_array_equal(weights[image], np.tile(assigned[:, None], 5))
        assert (label_weights[image] == 1).all()
    assert average == total


def numpy_loss(head, x, boxes, names):
    """Focal and IoU loss of one image over its assigned anchors, by their formulas."""
    scores, logits = (flat(maps, 0) for maps in tower_outputs(head, x))
    owner = numpy_atss(boxes)
    assigned = owner >= 0
    truth = np.zeros_like(scores, np.float64)
    truth[assigned, names[owner[assigned]]] = 1
    p = 1 / (1 + np.exp(-scores.astype(np.float64)))
    focal = np.where(
        truth == 1, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p)
    ).sum()
    ious = reference(numpy_boxes(logits, numpy_anchors())[assigned], boxes[owner[assigned]])
    return focal / assigned.sum(), -np.log(ious.clip(1e-6)).sum() / assigned.sum()


def test_losses_are_focal_and_iou_loss_over_the_assigned_anchors():
    head, x = build_head(), features(batch=1)
    boxes = np.array([[40.5, 50.25, 60, 30, 0.4], [90.75, 80.5, 20, 40, -0.3]])
    names = np.array([2, 0])
    losses = head.loss_by_feat(*head(x), [instances(boxes, names)], [meta()])
    focal, iou = numpy_loss(head, x, boxes, names)
    assert sum(losses['loss_cls']).item() == pytest.approx(focal, rel=1e-4)
    assert sum(losses['loss_bbox']).item() == pytest.approx(iou, rel=1e-4)


def backward(head, truth, x=None):
    x = features(batch=len(truth)) if x is None else x
    losses = head.loss_by_feat(*head(x), truth, [meta() for _ in truth])
    total = sum(sum(values) for values in losses.values())
    assert total.isfinite()
    total.backward()
    assert all(p.grad.isfinite().all() for p in head.parameters())
    return losses


def test_gradients_reach_every_parameter():
    head = build_head().train()
    backward(head, [instances([[40.0, 50, 60, 30, 0.4]], [1])] * 2)
    for name, parameter in head.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_images_without_objects_train_the_background():
    head = build_head()
    losses = backward(head, [instances([], []), instances([], [])])
    assert sum(losses['loss_bbox']).item() == 0
    assert sum(losses['loss_cls']).item() > 0
    assert head.retina_reg.weight.grad.abs().max() == 0
    assert head.retina_cls.weight.grad.abs().max() > 0


def test_an_image_without_objects_beside_one_with_some():
    losses = backward(build_head(), [instances([[40.0, 50, 60, 30, 0.4]], [1]), instances([], [])])
    assert sum(losses['loss_bbox']).item() > 0


@pytest.mark.parametrize(
    'box',
    [
        [40.0, 48, 1, 1, 0.3],
        [40.3, 48.6, 1, 1, 0.3],
        [40.0, 48, 100, 1, 0.3],
        [40.0, 48, 0, 0, 0],
        [40.0, 48, 100, 0, 0],
        [300.0, 300, 20, 20, 0],
        [64.0, 64, 900, 900, 0.5],
    ],
    ids=['pixel', 'pixel off centre', 'thin', 'point', 'line', 'outside', 'larger than the image'],
)
def test_losses_and_gradients_of_unusual_objects_are_finite(box):
    backward(build_head(), [instances([box], [1])])


def test_predictions_are_rotated_boxes_best_first():
    from mmrotate.structures.bbox import RotatedBoxes

    head, x = build_head(1), features()
    scores, logits = tower_outputs(head, x)
    results = head.predict_by_feat(*head(x), batch_img_metas=[meta(), meta()])
    for image, result in enumerate(results):
        assert isinstance(result.bboxes, RotatedBoxes)
        assert len(result) > 3
        assert (result.scores.diff() <= 0).all()
        assert result.scores.min() > 0.05
        # Each is one of the boxes of the published description, with the score of its class.
        boxes = numpy_boxes(flat(logits, image), numpy_anchors())
        boxes[:, :2] = boxes[:, :2].clip(0, 127)  # mmrotate keeps centres within the image
        probabilities = 1 / (1 + np.exp(-flat(scores, image)))
        for box, score, label in zip(
            result.bboxes.tensor.numpy(), result.scores.tolist(), result.labels, strict=True
        ):
            same = np.isclose(boxes, box, rtol=1e-3, atol=1e-2).all(1)
            assert np.isclose(probabilities[same, label], score, atol=1e-4).any()
        # What rotated NMS leaves of a class hardly overlaps.
        for label in range(NUM_CLASSES):
            kept = result.bboxes.tensor[result.labels == label].double().numpy()
            first, second = np.triu_indices(len(kept), 1)
            assert (reference(kept[first], kept[second]) <= 0.1 + 1e-3).all()


def test_a_distribution_needs_two_values():
    with pytest.raises(UserError, match='`reg_max` must be at least 1, got 0'):
        build_head(reg_max=0)

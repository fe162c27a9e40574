import math
import re

import numpy as np
import pytest
import torch
from rotated_boxes import reference

from edgenext_mm.errors import UserError
from edgenext_mm.models import RotatedIoULoss, rotated_iou
from edgenext_mm.registry import MODELS

DTYPES = [(torch.float32, 1e-6), (torch.float64, 1e-12)]


def random_pairs(count, seed=0):
    """Targets of 1 to 400 pixels; predictions off by some of their size and by any angle."""
    rng = np.random.default_rng(seed)
    target = np.zeros((count, 5))
    target[:, :2] = rng.uniform(0, 1024, (count, 2))
    target[:, 2:4] = np.exp(rng.uniform(0, 6, (count, 2)))
    target[:, 4] = rng.uniform(-4, 4, count)
    pred = target.copy()
    pred[:, :2] += rng.normal(0, 0.3, (count, 2)) * target[:, 2:4].min(1, keepdims=True)
    pred[:, 2:4] *= np.exp(rng.normal(0, 0.5, (count, 2)))
    pred[:, 4] += rng.normal(0, 0.5, count)
    return pred, target


def special_pairs(seed=1):
    """Pairs by name of what is special about them, 50 of each."""
    rng = np.random.default_rng(seed)

    def boxes(low=4, high=100):
        return np.column_stack(
            [
                rng.uniform(0, 1024, (50, 2)),
                rng.uniform(low, high, (50, 2)),
                rng.uniform(-math.pi, math.pi, 50),
            ]
        )

    def moved(box, along, across):
        cos, sin = np.cos(box[:, 4]), np.sin(box[:, 4])
        shift = np.stack([along * cos - across * sin, along * sin + across * cos], 1)
        return np.column_stack([box[:, :2] + shift, box[:, 2:]])

    def changed(box, column, value):
        box = box.copy()
        box[:, column] = value
        return box

    def turned(box, angle):
        return changed(box, 4, box[:, 4] + angle)

    a, upright = boxes(), changed(boxes(), 4, 0)
    w, h = a[:, 2], a[:, 3]
    quarters = rng.integers(-3, 4, 50) * math.pi / 2
    swapped = turned(a[:, [0, 1, 3, 2, 4]], math.pi / 2)
    far, larger = a + np.array([1e6, -1e6, 0, 0, 0]), a * [1, 1, 1e6, 1e6, 1]
    smaller = a * [1, 1, 1e-6, 1e-6, 1]
    yield 'identical', a, a
    yield 'identical, half a turn on', turned(a, math.pi), a
    yield 'identical, sides swapped', swapped, a
    yield 'nearly identical', a * (1 + rng.normal(0, 1e-9, a.shape)), a
    yield 'nearly identical, float32', a * (1 + rng.normal(0, 1e-6, a.shape)), a
    yield 'nested', a * [1, 1, 0.5, 0.25, 1], a
    yield 'nested, with a common edge', moved(a * [1, 1, 0.5, 1, 1], w / 4, 0 * w), a
    yield 'nested, with a common corner', moved(a * [1, 1, 0.5, 0.5, 1], w / 4, h / 4), a
    yield 'touching along an edge', moved(a, w, 0 * w), a
    yield 'touching at a corner', moved(a, w, h), a
    yield 'touching along a part of an edge', moved(a, w, 0.3 * h), a
    yield 'apart', moved(a, 3 * w, 0 * w), a
    yield 'sharing half', moved(a, w / 2, 0 * w), a
    yield 'turned by quarters', changed(upright, 4, quarters), upright
    yield 'crossing', a * [1, 1, 2, 0.5, 1], a
    yield 'turned by 45 degrees', turned(a, math.pi / 4), a
    yield 'corner on an edge', changed(upright, 4, math.pi / 4), changed(upright, 2, 2 * w)
    yield 'of width 0', changed(a, 2, 0), a
    yield 'of height 0 within', a, changed(a, 3, 0)
    yield 'points', changed(changed(a, 2, 0), 3, 0), a
    yield 'lines that cross', changed(a, 2, 0), changed(a, 3, 0)
    yield 'two points', changed(changed(a, 2, 0), 3, 0), changed(changed(a, 2, 0), 3, 0)
    yield 'thin', changed(a, 3, 1e-3), a
    yield 'both thin, crossing', changed(a, 3, 1e-3), changed(a, 2, 1e-3)
    yield (
        'both thin, almost parallel',
        changed(a, 3, 1e-3),
        turned(changed(a, 3, 1e-3), 1e-6),
    )
    yield 'very thin and long', changed(changed(a, 2, 2000), 3, 1e-2), changed(a, 2, 2000)
    yield 'of one pixel', changed(changed(a, 2, 1), 3, 1), a
    yield 'tiny', moved(smaller, smaller[:, 2] / 3, 0 * w), smaller
    yield 'huge', larger, turned(moved(larger, 1e6, 1e6), 0.3)
    yield 'huge and small', larger, a
    yield 'far from the origin', turned(far, 0.2), far
    yield 'turned many times', turned(a, 100 * math.pi + 0.1), a


SPECIAL = list(special_pairs())
NAMES = [name for name, _, _ in SPECIAL]


@pytest.mark.parametrize(('dtype', 'tolerance'), DTYPES)
def test_random_pairs_agree_with_shapely(dtype, tolerance):
    pred, target = (torch.tensor(boxes, dtype=dtype) for boxes in random_pairs(3000))
    expected = reference(pred.numpy(), target.numpy())
    assert (expected > 0.1).mean() > 0.5
    ious = rotated_iou(pred, target)
    assert ious.dtype == dtype
    assert np.abs(ious.numpy() - expected).max() < tolerance


@pytest.mark.parametrize(('name', 'pred', 'target'), SPECIAL, ids=NAMES)
def test_special_pairs_agree_with_shapely(name, pred, target):
    for dtype, tolerance in DTYPES:
        first, second = torch.tensor(pred, dtype=dtype), torch.tensor(target, dtype=dtype)
        expected = reference(first.numpy(), second.numpy())
        # For boxes with hardly any area, shapely has rounding errors.
        atol = 1e-6 if 'thin' in name or 'tiny' in name else tolerance
        np.testing.assert_allclose(rotated_iou(first, second), expected, rtol=0, atol=atol)
        np.testing.assert_allclose(rotated_iou(second, first), expected, rtol=0, atol=atol)


def test_known_values():
    box = torch.tensor([[5.0, 5.0, 4.0, 2.0, 0.3]])
    assert rotated_iou(box, box).item() == 1
    third = torch.tensor([[5.0 + 2 * math.cos(0.3), 5.0 + 2 * math.sin(0.3), 4.0, 2.0, 0.3]])
    assert rotated_iou(box, third).item() == pytest.approx(1 / 3)
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
    octagon = 8 * (math.sqrt(2) - 1)
    turned = square + torch.tensor([0, 0, 0, 0, math.pi / 4])
    assert rotated_iou(square, turned).item() == pytest.approx(octagon / (8 - octagon))


def test_sides_below_zero_count_as_zero():
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]])
    assert rotated_iou(box * torch.tensor([1.0, 1, -1, 1, 1]), box).item() == 0


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_higher_precision(dtype):
    pred, target = (torch.tensor(boxes).to(dtype) for boxes in random_pairs(1000))
    ious = rotated_iou(pred, target)
    assert ious.dtype == torch.float32
    expected = reference(pred.double().numpy(), target.double().numpy())
    np.testing.assert_allclose(ious, expected, rtol=0, atol=1e-6)


def test_no_pairs():
    boxes = torch.zeros(0, 5, requires_grad=True)
    assert rotated_iou(boxes, boxes).shape == (0,)
    RotatedIoULoss()(boxes, boxes).backward()
    assert boxes.grad.shape == (0, 5)


def finite_differences(pred, target, index, step):
    """Central differences of shapely's IoU, (N, 5), in the boxes of one of the arguments."""
    columns = []
    for column in range(5):
        shift = np.zeros(5)
        shift[column] = step
        high, low = ([pred, target] for _ in range(2))
        high[index], low[index] = high[index] + shift, low[index] - shift
        columns.append((reference(*high) - reference(*low)) / (2 * step))
    return np.stack(columns, 1)


@pytest.mark.parametrize('index', [0, 1], ids=['pred', 'target'])
def test_gradients_agree_with_finite_differences_of_shapely(index):
    pred, target = random_pairs(500, seed=2)
    boxes = [torch.tensor(b, requires_grad=True) for b in (pred, target)]
    rotated_iou(*boxes).sum().backward()
    grad = boxes[index].grad.numpy()
    expected = finite_differences(pred, target, index, 1e-5)
    # A difference that straddles a kink, where a corner meets an edge, is not the gradient.
    coarser = finite_differences(pred, target, index, 2e-5)
    smooth = np.abs(coarser - expected) < 1e-6
    assert smooth.mean() > 0.99
    np.testing.assert_allclose(grad[smooth], expected[smooth], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16])
@pytest.mark.parametrize('mode', ['linear', 'square', 'log'])
def test_gradients_of_special_pairs_are_finite(mode, dtype):
    for name, *pair in SPECIAL:
        # The largest number in half precision is 65504.
        boxes = [torch.tensor(b).clamp(-6e4, 6e4).to(dtype).requires_grad_() for b in pair]
        loss = RotatedIoULoss(mode=mode, reduction='none')(*boxes)
        assert loss.isfinite().all(), name
        assert loss.min() >= 0, name
        loss.sum().backward()
        assert all(b.grad.isfinite().all() for b in boxes), name


@pytest.mark.parametrize('exponent', [-6, -12, -18, -30])
def test_gradients_of_vanishing_boxes_are_finite(exponent):
    size = 10.0**exponent
    boxes = [
        torch.tensor([[0.0, 0.0, w, h, 0.2]], requires_grad=True)
        for w, h in ((size, size), (size, 1.0), (size, 0.0))
    ]
    for pred in boxes:
        for target in boxes:
            iou = rotated_iou(pred, target)
            assert 0 <= iou.item() <= 1
            grads = torch.autograd.grad(iou.sum(), [pred], allow_unused=True)
            assert grads[0].isfinite().all()


def test_identical_boxes_have_no_gradient():
    box = torch.tensor([[3.0, 4.0, 5.0, 6.0, 0.7]], dtype=torch.float64)
    pred = box.clone().requires_grad_()
    RotatedIoULoss(mode='linear')(pred, box).backward()
    assert pred.grad.abs().max() < 1e-12


def test_boxes_of_no_width_learn_to_grow():
    target = torch.tensor([[0.0, 0.0, 10.0, 10.0, 0.0]])
    pred = torch.tensor([[0.0, 0.0, 0.0, 8.0, 0.3]], requires_grad=True)
    rotated_iou(pred, target).sum().backward()
    assert pred.grad[0, 2].item() == pytest.approx(8 / 100)


def test_boxes_move_onto_their_targets():
    pred, target = (torch.tensor(boxes, dtype=torch.float32) for boxes in random_pairs(100, 4))
    # Both relative to the size of the target; logs of the sides, as in box coders.
    scale = target[:, 2:4].prod(1, keepdim=True).sqrt()
    pred, target = (
        torch.cat([(b[:, :2] - target[:, :2]) / scale, b[:, 2:4] / scale, b[:, 4:]], 1)
        for b in (pred, target)
    )
    moving = torch.cat([pred[:, :2], pred[:, 2:4].log(), pred[:, 4:]], 1).requires_grad_()
    optimizer = torch.optim.Adam([moving], lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    loss = RotatedIoULoss()
    for _ in range(150):
        boxes = torch.cat([moving[:, :2], moving[:, 2:4].exp(), moving[:, 4:]], 1)
        optimizer.zero_grad()
        loss(boxes, target).backward()
        optimizer.step()
        schedule.step()
    assert rotated_iou(pred, target).mean() < 0.6
    assert rotated_iou(boxes, target).mean() > 0.97


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [('linear', lambda u: 1 - u), ('square', lambda u: 1 - u**2), ('log', lambda u: -u.log())],
)
def test_modes_reductions_and_weights(mode, expected):
    pred, target = (torch.tensor(boxes, dtype=torch.float64) for boxes in random_pairs(50))
    u = torch.tensor(reference(pred.numpy(), target.numpy())).clamp(min=1e-3)
    weight = torch.linspace(0, 2, 50, dtype=torch.float64)
    loss = RotatedIoULoss(mode=mode, eps=1e-3, loss_weight=3)

    def close(actual, wanted):
        torch.testing.assert_close(actual, wanted, rtol=1e-9, atol=1e-12)

    close(loss(pred, target), 3 * expected(u).mean())
    close(loss(pred, target, reduction_override='none'), 3 * expected(u))
    close(loss(pred, target, weight, reduction_override='none'), 3 * expected(u) * weight)
    close(loss(pred, target, reduction_override='sum'), 3 * expected(u).sum())
    close(loss(pred, target, weight), 3 * (expected(u) * weight).mean())
    close(loss(pred, target, weight, avg_factor=7), 3 * (expected(u) * weight).sum() / 7)
    close(loss(pred, target, weight[:, None].repeat(1, 5)), 3 * (expected(u) * weight).mean())
    summed = RotatedIoULoss(mode=mode, eps=1e-3, reduction='sum')
    close(summed(pred, target, weight), (expected(u) * weight).sum())


def test_pairs_of_weight_zero_do_not_matter():
    pred, target = (torch.tensor(boxes) for boxes in random_pairs(4))
    pred[1] = math.nan
    pred.requires_grad_()
    loss = RotatedIoULoss()
    value = loss(pred, target, torch.tensor([1.0, 0, 1, 0]), avg_factor=2)
    value.backward()
    kept = [0, 2]
    torch.testing.assert_close(value, loss(pred[kept], target[kept]))
    assert pred.grad[[1, 3]].abs().max() == 0
    nothing = loss(pred, target, torch.zeros(4), avg_factor=1)
    assert nothing.item() == 0
    nothing.backward()


def test_the_loss_is_registered_and_accepts_boxes_of_mmrotate():
    from mmrotate.structures.bbox import RotatedBoxes

    pred, target = (torch.tensor(boxes) for boxes in random_pairs(4))
    loss = MODELS.build(dict(type='RotatedIoULoss', mode='linear'))
    assert isinstance(loss, RotatedIoULoss)
    assert loss(RotatedBoxes(pred), RotatedBoxes(target)) == loss(pred, target)


@pytest.mark.parametrize(
    ('pred', 'target', 'message'),
    [
        (torch.rand(3, 4), torch.rand(3, 5), '`pred` must have shape (N, 5)'),
        (torch.rand(3, 5), torch.rand(2, 3, 5), '`target` must have shape (N, 5)'),
        (torch.rand(3, 5), torch.rand(2, 5), 'got 3 and 2 boxes'),
        (torch.ones(3, 5, dtype=torch.int64), torch.rand(3, 5), 'got torch.int64'),
    ],
)
def test_wrong_boxes_are_refused(pred, target, message):
    with pytest.raises(UserError, match=re.escape(message)):
        rotated_iou(pred, target)


def test_wrong_arguments_are_refused():
    boxes, loss = torch.rand(3, 5), RotatedIoULoss()
    for message, call in (
        (r"`mode` must be one of .* got 'giou'", lambda: RotatedIoULoss(mode='giou')),
        (r"`reduction` must be one of .* got 'max'", lambda: RotatedIoULoss(reduction='max')),
        (
            r"`reduction_override` must be one of .* got 'max'",
            lambda: loss(boxes, boxes, reduction_override='max'),
        ),
        (r'`weight` must have shape \(3,\) or', lambda: loss(boxes, boxes, torch.ones(2))),
        (
            '`avg_factor` cannot be used with',
            lambda: loss(boxes, boxes, avg_factor=2, reduction_override='sum'),
        ),
    ):
        with pytest.raises(UserError, match=message):
            call()

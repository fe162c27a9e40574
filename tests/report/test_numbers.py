"""Numbers of the report, against pycocotools, scikit-learn, mmseg and mmrotate, and by hand."""

import numpy as np
import pytest
import torch
from mmrotate.evaluation import DOTAMetric
from mmseg.evaluation import IoUMetric
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from sklearn.metrics import accuracy_score, f1_score

from edgenext_mm import RotatedBoxMetric
from edgenext_mm.report import detection
from edgenext_mm.report.analysis import analyse
from edgenext_mm.report.curves import Calibration, ScoreCurve
from edgenext_mm.report.page import render
from edgenext_mm.report.predictions import Classified, Collected, Detections, Objects
from edgenext_mm.report.segmentation import PixelCounts


def objects(*rows, ignored=(), masks=None):
    """Objects from (x1, y1, x2, y2, label[, score])."""
    rows = [row if len(row) == 6 else (*row, 1.0) for row in rows]
    table = np.array(rows, float).reshape(-1, 6)
    marks = np.isin(np.arange(len(table)), ignored)
    return Objects(table[:, :4], table[:, 4].astype(int), table[:, 5], marks, masks)


def random_images(count=40, classes=3, rotated=False, with_masks=False):
    """True objects, and predictions that are near them, doubled, of a wrong class or nowhere."""
    rng = np.random.default_rng(1)
    images = []
    for index in range(count):
        true = [draw_box(rng, classes) for _ in range(rng.integers(0, 6))]
        found = []
        for box in true:
            for _ in range(rng.integers(0, 3)):
                moved = np.array(box[:4]) + rng.normal(0, 6, 4)
                label = box[4] if rng.random() < 0.8 else rng.integers(classes)
                found.append((*fixed(moved), label, round(rng.random(), 3)))
        found += [(*draw_box(rng, classes), rng.random()) for _ in range(rng.integers(0, 3))]
        crowds = [0] if len(true) > 3 and not rotated else []
        truth, predicted = objects(*true, ignored=crowds), objects(*found)
        if rotated:
            for group in (truth, predicted):
                group.bboxes = turned(group.bboxes, rng)
        if with_masks:
            for group in (truth, predicted):
                group.masks = [ellipse(box) for box in group.bboxes]
        images.append(Detections(f'{index}.png', (200, 220), truth, predicted))
    return images


def draw_box(rng, classes):
    x, y = rng.uniform(0, 120, 2)
    w, h = np.exp(rng.uniform(np.log(10), np.log(100), 2))
    return (x, y, x + w, y + h, rng.integers(classes))


def fixed(box):
    x1, y1, x2, y2 = box
    return (x1, y1, max(x2, x1 + 4), max(y2, y1 + 4))


def turned(boxes, rng):
    centres, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centres, sizes, rng.uniform(-0.1, 0.1, (len(boxes), 1))], 1)


def ellipse(box):
    y, x = np.mgrid[:200, :220]
    (x1, y1, x2, y2) = box
    inside = ((x - (x1 + x2) / 2) / (x2 - x1) * 2) ** 2 + ((y - (y1 + y2) / 2) / (y2 - y1) * 2) ** 2
    return coco_masks.encode(np.asfortranarray(inside <= 1, np.uint8))


def coco_stats(images, classes, kind):
    """pycocotools on files that are written here."""
    truth, found = [], []
    for number, image in enumerate(images, 1):
        for group, entries in ((image.truth, truth), (image.found, found)):
            for i, (x1, y1, x2, y2) in enumerate(group.bboxes):
                entry = dict(
                    image_id=number, category_id=int(group.labels[i]) + 1, id=len(truth) + 1
                )
                entry |= dict(bbox=[x1, y1, x2 - x1, y2 - y1], score=group.scores[i])
                entry |= dict(area=(x2 - x1) * (y2 - y1), iscrowd=int(group.ignored[i]))
                if kind == 'segm':
                    entry['segmentation'] = group.masks[i]
                    entry['area'] = float(coco_masks.area(group.masks[i]))
                entries.append(entry)
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=i + 1, width=220, height=200) for i in range(len(images))],
        annotations=truth,
        categories=[dict(id=i + 1, name=str(i)) for i in range(classes)],
    )
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(found), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


@pytest.mark.parametrize('with_masks', [False, True])
def test_average_precision_is_that_of_pycocotools(with_masks):
    images = random_images(with_masks=with_masks)
    found = detection.average_precision(images, 3)
    evaluation = coco_stats(images, 3, 'segm' if with_masks else 'bbox')
    names = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
    assert [found[name] for name in names] == pytest.approx(evaluation.stats[:6].tolist())
    assert 0.02 < found['AP'] < 0.9
    assert np.mean([ap50 for _, ap50 in found['per_class']]) == pytest.approx(found['AP50'])


def test_matches_give_the_curve_of_pycocotools():
    """AP50 by COCO's 101 points of recall, from the report's precision and recall."""
    images = random_images()
    matches = detection.Matches.of(images)
    for label, (_, expected) in enumerate(detection.average_precision(images, 3)['per_class']):
        own = matches.of_class(label)
        curve = ScoreCurve.of(own.scores, own.right, len(own.true_labels))
        best = np.maximum.accumulate(curve.precision[::-1])[::-1]
        places = np.searchsorted(curve.recall, np.linspace(0, 1, 101), side='left')
        points = [best[i] if i < len(best) else 0.0 for i in places]
        assert np.mean(points) == pytest.approx(expected, abs=0.003)


def test_rotated_average_precision_is_that_of_mmrotate():
    images = random_images(rotated=True)
    metrics = [DOTAMetric(iou_thrs=[0.5, 0.3]), RotatedBoxMetric(iou_thrs=[0.5, 0.3])]
    for image in images:
        true, found = (
            dict(bboxes=torch.tensor(g.bboxes).float(), labels=torch.tensor(g.labels))
            for g in (image.truth, image.found)
        )
        found['scores'] = torch.tensor(image.found.scores).float()
        first = int(len(image.truth) > 1)  # mmrotate forgets ignored boxes without others
        ignored = {name: values[:first] for name, values in true.items()}
        true = {name: values[first:] for name, values in true.items()}
        image.truth.ignored[:first] = True
        sample = dict(gt_instances=true, ignored_instances=ignored, pred_instances=found)
        for metric in metrics:
            metric.dataset_meta = dict(classes=('a', 'b', 'c', 'absent'))
            metric.process(None, [dict(sample, img_id=image.path)])
    expected, own = (metric.evaluate(len(images)) for metric in metrics)
    assert own['dota/mAP'] == pytest.approx(expected.pop('dota/mAP'))
    assert own['dota/AP50'] == pytest.approx(expected['dota/AP50'], abs=1e-3)  # mmrotate rounds
    assert own['dota/AP30'] == pytest.approx(expected['dota/AP30'], abs=1e-3)
    found = detection.rotated_average_precision(images, 4)
    assert found['AP50'] == pytest.approx(own['dota/AP50'])
    assert found['per_class'][3] == -1
    assert 0.05 < expected['dota/AP50'] < expected['dota/AP30'] < 0.95


def test_pixel_counts_are_those_of_mmseg():
    rng = np.random.default_rng(0)
    pixels, metric = PixelCounts(5), IoUMetric()
    metric.dataset_meta = dict(classes=tuple('abcde'))
    for _ in range(4):
        truth = rng.integers(0, 5, (30, 40))
        found = np.where(rng.random((30, 40)) < 0.6, truth, rng.integers(0, 5, (30, 40)))
        truth[:3] = 255
        pixels.add(truth, found, 255)
        data = [dict(data=torch.tensor(mask)) for mask in (truth, found)]
        metric.process(None, [dict(gt_sem_seg=data[0], pred_sem_seg=data[1])])
    expected = metric.evaluate(4)
    for name, value in pixels.overall().items():
        assert 100 * value == pytest.approx(expected[name], abs=0.01)


def test_classification_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 200)
    scores = rng.dirichlet(np.ones(4), 200)
    scores[np.arange(200), truth] += 0.3
    scores /= scores.sum(1, keepdims=True)
    images = [Classified(f'{i}', int(truth[i]), scores[i]) for i in range(200)]
    found = analyse(Collected('classification', images), tuple('abcd'))
    labels = scores.argmax(1)
    assert found['overall']['accuracy'] == pytest.approx(accuracy_score(truth, labels))
    assert found['overall']['macro F1'] == pytest.approx(f1_score(truth, labels, average='macro'))
    counts = np.array(found['confusion']['counts'])
    for i in range(4):
        for j in range(4):
            assert counts[i, j] == ((truth == i) & (labels == j)).sum()
    value, share = found['threshold']['value'], found['threshold']['share']
    accepted = scores.max(1) >= value
    assert (truth == labels)[accepted].mean() >= 0.99
    assert accepted.mean() == pytest.approx(share)


TRUE = objects((0, 0, 20, 20, 0), (50, 0, 70, 20, 0), (100, 0, 120, 20, 1), (150, 0, 170, 20, 1))


@pytest.mark.parametrize(
    ('predicted', 'expected'),
    [
        ((0, 0, 20, 20, 0), {}),
        ((8, 0, 28, 20, 0), dict(place=1)),  # IoU 12 / 28
        ((100, 0, 120, 20, 0), {'class': 1}),
        ((112, 0, 132, 20, 0), dict(both=1)),  # IoU 8 / 32
        ((200, 200, 220, 220, 0), dict(background=1)),
        ((19, 0, 39, 20, 0), dict(background=1)),  # IoU 1 / 39
    ],
)
def test_errors_by_kind(predicted, expected):
    images = [Detections('a', (300, 300), TRUE, objects((*predicted, 0.9)))]
    errors = detection.count_errors(images, 0.5)
    missed = errors.pop('missed')
    assert {kind: count for kind, count in errors.items() if count} == expected
    # An object that a correction would find is not missed.
    assert missed == (4 if 'background' in expected or 'both' in expected else 3)


def test_a_second_prediction_is_double_and_a_low_one_does_not_count():
    found = objects((0, 0, 20, 20, 0, 0.9), (1, 0, 21, 20, 0, 0.8), (100, 0, 120, 20, 1, 0.3))
    errors = detection.count_errors([Detections('a', (300, 300), TRUE, found)], 0.5)
    assert errors['double'] == 1
    assert errors['missed'] == 3


def test_confusion_with_background():
    found = objects((0, 0, 20, 20, 0, 0.9), (100, 0, 120, 20, 0, 0.9), (250, 0, 270, 20, 1, 0.9))
    matrix = detection.confusion([Detections('a', (300, 300), TRUE, found)], 2, 0.5)
    assert matrix.tolist() == [[1, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_predictions_of_crowds_do_not_count():
    truth = objects((0, 0, 100, 100, 0), (150, 150, 170, 170, 0), ignored=[0])
    found = objects((10, 10, 40, 40, 0, 0.9), (150, 150, 170, 170, 0, 0.8))
    image = Detections('a', (300, 300), truth, found)
    assert detection.match_objects(found, truth).tolist() == [-2, 1]
    matches = detection.Matches.of([image])
    assert matches.right.tolist() == [True]
    assert matches.true_labels.tolist() == [0]
    assert detection.image_f1(image, 0.5) == 1
    assert sum(detection.count_errors([image], 0.5).values()) == 0


def test_the_best_threshold_by_hand():
    curve = ScoreCurve.of(np.array([0.9, 0.8, 0.7, 0.2]), np.array([1, 1, 0, 1]) > 0, 3)
    assert curve.precision.tolist() == pytest.approx([1, 1, 2 / 3, 3 / 4])
    assert curve.recall.tolist() == pytest.approx([1 / 3, 2 / 3, 2 / 3, 1])
    assert curve.best() == (0.2, pytest.approx(6 / 7))
    assert curve.f1_at(0.75) == pytest.approx(0.8)
    assert curve.f1_at(0.95) == 0
    assert ScoreCurve.of(np.empty(0), np.empty(0, bool), 3).best() == (1.0, 0.0)


def test_a_drawn_curve_follows_the_scores_even_if_few_are_high():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.uniform(0, 0.02, 20_000), rng.uniform(0, 1, 300)])
    curve = ScoreCurve.of(scores, rng.random(len(scores)) < scores, 300)
    drawn = curve.thinned()
    assert len(drawn['threshold']) <= 400
    at, last = np.linspace(0.05, 0.95, 50), slice(None, None, -1)
    for name in ('precision', 'recall'):
        found = np.interp(at, drawn['threshold'][last], drawn[name][last])
        full = np.interp(at, curve.thresholds[last], getattr(curve, name)[last])
        assert found == pytest.approx(full, abs=0.02)
    assert drawn['recall'][-1] == pytest.approx(curve.recall[-1], abs=1e-4)


def test_equal_scores_are_one_point():
    curve = ScoreCurve.of(np.array([0.5, 0.5, 0.9]), np.array([True, False, True]), 2)
    assert curve.thresholds.tolist() == [0.9, 0.5]
    assert curve.precision.tolist() == pytest.approx([1, 2 / 3])


def test_calibration_by_hand():
    found = Calibration.of(np.array([0.95, 0.97, 0.1, 0.1]), np.array([True, False, False, False]))
    assert found.counts[[1, 14]].tolist() == [2, 2]
    assert found.right[[1, 14]].tolist() == [0, 0.5]
    assert found.error == pytest.approx(0.5 * 0.1 + 0.5 * (0.96 - 0.5))


def test_nothing_found_and_nothing_true():
    empty = objects()
    images = [Detections('a', (9, 9), objects((0, 0, 5, 5, 1)), empty)]
    images.append(Detections('b', (9, 9), empty, empty))
    found = analyse(Collected('detection', images), ('x', 'y'))
    assert found['overall']['AP'] == 0
    assert found['errors']['missed'] == 1
    assert found['classes'][0]['objects'] == 0
    numbers = dict(found, task='detection', images=2, metrics={}, facts=dict(data='d'))
    page = render(numbers, [], None, 'weights.pth')
    assert 'No prediction is right' in page
    assert 'aria-label="Errors by kind"' in page
    assert 'no example of 1 class: x' in page
    assert '2 images, 2 classes, d' in page
    assert [row['best threshold'] for row in found['classes']] == [None, None]

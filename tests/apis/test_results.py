import json

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmpretrain.models.heads import ClsHead, MultiLabelClsHead
from mmpretrain.structures import DataSample, MultiTaskDataSample
from pycocotools import mask as coco_mask

from edgenext_mm.apis.results import to_result, to_truth
from edgenext_mm.errors import UserError
from edgenext_mm.runtime.results import class_name, shares, to_json, to_text

META = dict(classes=('cat', 'dog', 'bird'))


def detected(**more):
    instances = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 2, 2], [1, 1, 5, 5], [2, 2, 3, 3]]),
        scores=torch.tensor([0.2, 0.9, 0.5]),
        labels=torch.tensor([2, 0, 1]),
        **more,
    )
    return BaseDataElement(pred_instances=instances)


def test_objects_are_sorted_by_score_and_filtered_by_the_threshold():
    result = to_result(detected(), META, score_thr=0.3)
    assert result['classes'] == ['cat', 'dog']
    np.testing.assert_array_equal(result['labels'], [0, 1])
    np.testing.assert_allclose(result['scores'], [0.9, 0.5])
    np.testing.assert_array_equal(result['bboxes'], [[1, 1, 5, 5], [2, 2, 3, 3]])
    assert to_text('a.jpg', result) == 'a.jpg: cat (90%), dog (50%)'


def test_nothing_found_is_a_result():
    result = to_result(detected(), META, score_thr=0.99)
    assert result['bboxes'].shape == (0, 4)
    assert to_text('a.jpg', result) == 'a.jpg: nothing'
    assert json.loads(json.dumps(to_json('a.jpg', result)))['scores'] == []


def test_without_classes_there_are_numbers():
    result = to_result(detected(), {})
    assert 'classes' not in result
    assert to_text('a.jpg', result) == 'a.jpg: 0 (90%), 1 (50%), 2 (20%)'


def test_masks_are_run_lengths_that_pycocotools_reads():
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.random((3, 7, 5)) < 0.4)
    masks[0] = True
    result = to_result(detected(masks=masks), META)
    plain = json.loads(json.dumps(to_json('a.jpg', result)))
    for runs, mask in zip(plain['masks'], masks[[1, 2, 0]], strict=True):
        decoded = coco_mask.decode(coco_mask.frPyObjects(runs, *runs['size']))
        np.testing.assert_array_equal(decoded, mask)


def test_a_segmented_image():
    sem_seg = torch.tensor([[[0, 0, 2, 2], [0, 0, 0, 2]]])
    result = to_result(BaseDataElement(pred_sem_seg=PixelData(data=sem_seg)), META)
    assert result['sem_seg'].shape == (2, 4)
    assert shares(result) == {'cat': 5 / 8, 'bird': 3 / 8}
    assert to_text('a.jpg', result) == 'a.jpg: cat 62.5%, bird 37.5%'
    runs = to_json('a.jpg', result)['sem_seg'][2]
    decoded = coco_mask.decode(coco_mask.frPyObjects(runs, 2, 4))
    np.testing.assert_array_equal(decoded, sem_seg[0] == 2)


@pytest.mark.parametrize(
    ('scores', 'labels'),
    [([0.97, 0.1, 0.97], [0, 2]), ([0.1, 0.6, 0.2], [1]), ([0.033, 0.01, 0.02], [])],
)
@pytest.mark.parametrize('head', [dict(), dict(topk=2)])
def test_multi_label_results_are_the_labels_of_the_head(scores, labels, head):
    """The head is mmpretrain's, its thresholds and label counts are applied by hand."""
    if head:
        labels = sorted(np.argsort(scores)[-2:].tolist(), key=lambda i: -scores[i])
    logits = torch.tensor([scores], dtype=torch.float64).logit().float()
    [sample] = MultiLabelClsHead(**head).predict((logits,))
    result = to_result(sample, META, multi_label=True)
    assert result['pred_labels'].tolist() == labels
    assert result['pred_classes'] == [META['classes'][i] for i in labels]
    np.testing.assert_allclose(result['pred_scores'], scores, atol=1e-6)
    assert 'pred_label' not in result
    assert to_result(sample, {}, multi_label=True).keys() == {'pred_labels', 'pred_scores'}
    plain = json.loads(json.dumps(to_json('a.jpg', result)))
    assert plain['pred_labels'] == labels
    by_score = sorted(labels, key=lambda i: -scores[i])
    found = ', '.join(f'{META["classes"][i]} ({scores[i]:.0%})' for i in by_score)
    assert to_text('a.jpg', result) == f'a.jpg: {found or "nothing"}'


def test_several_labels_or_none_are_always_multi_label():
    for labels in ([0, 2], []):
        sample = DataSample().set_pred_score([0.9, 0.1, 0.8]).set_pred_label(labels)
        assert to_result(sample, META)['pred_labels'].tolist() == labels
        truth = to_truth(DataSample().set_gt_label(labels), META)
        assert truth['pred_classes'] == [META['classes'][i] for i in labels]
    assert class_name(truth) == 'none'


def test_a_single_label_is_the_one_of_the_head():
    [sample] = ClsHead().predict((torch.tensor([[0.0, 3.0, 1.0]]),))
    result = to_result(sample, META)
    expected = np.exp([0, 3, 1]) / np.exp([0, 3, 1]).sum()
    np.testing.assert_allclose(result['pred_scores'], expected, atol=1e-6)
    assert (result['pred_label'], result['pred_class']) == (1, 'dog')
    assert result['pred_score'] == pytest.approx(expected[1])


def test_segmentation_of_one_channel_and_a_threshold():
    """mmseg's binary segmentors return floats; a class without a name keeps its number."""
    sem_seg = torch.tensor([[[0.0, 1, 1], [0, 0, 1]]])
    sample = BaseDataElement(pred_sem_seg=PixelData(data=sem_seg))
    result = to_result(sample, dict(classes=('ground', 'road')))
    assert result['sem_seg'].dtype.kind == 'i'
    assert shares(result) == {'ground': 0.5, 'road': 0.5}
    assert set(shares(to_result(sample, dict(classes=('road',))))) == {'road', '1'}


@pytest.mark.parametrize(
    ('sample', 'message'),
    [
        (DataSample().set_pred_score([3.5]).set_pred_label(torch.tensor([3.5])), 'regression'),
        (
            MultiTaskDataSample(colour=DataSample()),
            'MultiTaskDataSample with colour is not supported',
        ),
        (BaseDataElement(pred_panoptic_seg=PixelData()), 'pred_panoptic_seg is not supported'),
        (BaseDataElement(), 'BaseDataElement with no prediction is not supported'),
    ],
)
def test_results_of_other_tasks_are_refused(sample, message):
    with pytest.raises(UserError, match=message):
        to_result(sample, META)


def test_ground_truth_has_the_form_of_results():
    objects = InstanceData(bboxes=torch.ones(2, 5), labels=torch.tensor([1, 1]))
    truth = to_truth(BaseDataElement(gt_instances=objects), META)
    assert truth['classes'] == ['dog', 'dog']
    assert truth['bboxes'].shape == (2, 5)
    sem_seg = PixelData(data=torch.full((1, 2, 3), 255))
    assert to_truth(BaseDataElement(gt_sem_seg=sem_seg), META)['sem_seg'].shape == (2, 3)
    assert to_truth(BaseDataElement(gt_label=torch.tensor([2])), META) == dict(
        pred_label=2, pred_class='bird'
    )


def test_a_sample_without_ground_truth_is_refused():
    with pytest.raises(UserError, match='BaseDataElement without annotations'):
        to_truth(BaseDataElement(), META)

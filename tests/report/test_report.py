"""The report as users make it: one page for each task, from a checkpoint or an exported file."""

import json
import re

import pytest
import torch
from mmengine.config import Config

from edgenext_mm.config import load_config
from edgenext_mm.datasets.importing import import_data
from edgenext_mm.deployment import export
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model
from edgenext_mm.report.writing import write_report

CONFIGS = {
    'classification': 'classification/edgenext-xxsmall_digits',
    'detection': 'detection/ssdlite_edgenext-xxsmall_digits',
    'segmentation': 'segmentation/deeplabv3_edgenext-xxsmall_digits',
    'rotated_detection': 'rotated_detection/rotated-gfl-le135_edgenext-xxsmall_fpn_digits',
}
HOSTILE = '<script>alert(1)</script>'


@pytest.fixture
def prepared(scenes_root, few_digits, tmp_path):
    """A config on small data whose first class has a hostile name, and random weights for it."""

    def prepare(task):
        root = few_digits if task == 'classification' else scenes_root
        options = {f'{s}_dataloader.dataset.data_root': f'{root}/' for s in ('val', 'test')}
        for name in ('val_evaluator', 'test_evaluator'):
            if task == 'detection':
                options[f'{name}.ann_file'] = f'{root}/annotations/val.json'
        path = f'configs/{CONFIGS[task]}.py'
        config = load_config(path, options)
        torch.manual_seed(0)
        names = list('0123456789')
        if task == 'segmentation':
            names.insert(0, 'background')
        classes = (HOSTILE, *names[1:]) if task == 'classification' else tuple(names)
        meta = dict(dataset_meta=dict(classes=classes))
        checkpoint = tmp_path / 'weights.pth'
        model = build_model(config)
        torch.save(dict(meta=meta, state_dict=model.state_dict()), checkpoint)
        return path, checkpoint, [f'{name}={value}' for name, value in options.items()]

    return prepare


@pytest.mark.parametrize('task', CONFIGS)
def test_the_page_is_complete_and_needs_no_network(task, prepared, call_tool, tmp_path):
    path, checkpoint, options = prepared(task)
    out = tmp_path / 'report'
    done = call_tool(
        'report.py', path, checkpoint, '--out', out, '--images', '2', '--cfg-options', *options
    )
    assert f'report: {out / "report.html"}' in done.stdout
    numbers = json.loads((out / 'report.json').read_text())
    assert numbers['task'] == task
    assert len(numbers['worst images']) == 2
    page = (out / 'report.html').read_text()
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!data:|#)', page)
    assert not re.findall(r'https?://(?!www.w3.org)', page)
    assert HOSTILE not in page
    assert page.count('data:image/jpeg') == 2
    assert 'ms for an input of' in page
    assert all(f'<dt>{name}</dt>' in page for name in numbers['metrics'])
    assert page.count('<svg') == page.count('aria-label=') > 0
    assert re.search(r'sha256</dt><dd>[0-9a-f]{64}<', page)


def test_the_metrics_are_those_of_the_config(prepared, call_tool, tmp_path):
    path, checkpoint, options = prepared('classification')
    call_tool('report.py', path, checkpoint, '--out', tmp_path, '--cfg-options', *options)
    numbers = json.loads((tmp_path / 'report.json').read_text())
    assert 100 * numbers['overall']['accuracy'] == pytest.approx(
        numbers['metrics']['accuracy/top1']
    )
    page = (tmp_path / 'report.html').read_text()
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in page


def test_an_exported_file_has_a_report(prepared, call_tool, tmp_path, images_for):
    from edgenext_mm.apis.model import load_model

    path, checkpoint, options = prepared('classification')
    model = load_model(path, checkpoint, 'cpu')
    file = tmp_path / 'model.onnx'
    export(model, file, 'onnx', (64, 64), images=images_for(model))
    call_tool(
        'report.py', path, file, '--out', tmp_path, '--images', '1', '--cfg-options', *options
    )
    call_tool(
        'report.py', path, checkpoint, '--out', tmp_path / 'b', '--images', '1', '--cfg-options',
        *options,
    )  # fmt: skip
    first, second = (
        json.loads((folder / 'report.json').read_text()) for folder in (tmp_path, tmp_path / 'b')
    )
    assert first['confusion'] == second['confusion']
    pages = [(folder / 'report.html').read_text() for folder in (tmp_path, tmp_path / 'b')]
    assert ['activation map' in page for page in pages] == [False, True]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(num_images=-1), 'must be 0 or more, got -1'),
        (dict(out='taken/report'), 'taken is not a folder that you may write to'),
    ],
)
def test_arguments_that_cannot_be_used_are_found_before_the_test(options, message, tmp_path):
    (tmp_path / 'taken').write_text('')
    options['out'] = tmp_path / options.get('out', 'report')
    with pytest.raises(UserError, match=message):
        write_report(Config(), torch.nn.Identity(), source='a.pth', **options)


def test_data_without_annotations_are_an_error(prepared, call_tool, tmp_path):
    path, checkpoint, options = prepared('detection')
    pipeline = load_config(path).test_dataloader.dataset.pipeline
    steps = [str(i) for i, step in enumerate(pipeline) if step['type'] == 'LoadAnnotations']
    done = call_tool(
        'report.py', path, checkpoint, '--out', tmp_path / 'report', '--cfg-options', *options,
        f'test_dataloader.dataset.pipeline.{steps[0]}.with_bbox=False', status=1,
    )  # fmt: skip
    assert 'has no annotation in the test data' in done.stderr
    assert not (tmp_path / 'report').exists()


def test_instances_are_compared_by_their_masks(scenes_root, call_tool, tmp_path):
    data = tmp_path / 'scenes'
    summary = import_data(
        scenes_root, 'instance-segmentation', data, format='coco', pretrained=False
    )
    path = data / summary.config
    options = dict(image_size=(96, 96), num_workers=0)
    torch.manual_seed(0)
    model = build_model(load_config(path, options))
    checkpoint = tmp_path / 'weights.pth'
    meta = dict(dataset_meta=dict(classes=tuple(summary.classes)))
    torch.save(dict(meta=meta, state_dict=model.state_dict()), checkpoint)
    call_tool(
        'report.py', path, checkpoint, '--out', tmp_path / 'report', '--images', '1',
        '--cfg-options', 'image_size=(96,96)', 'num_workers=0',
    )  # fmt: skip
    numbers = json.loads((tmp_path / 'report' / 'report.json').read_text())
    assert numbers['task'] == 'instance_segmentation'
    expected = numbers['metrics']['coco/segm_mAP_50']
    assert numbers['overall']['AP50'] == pytest.approx(max(expected, 0), abs=1.5e-3)

"""Images that do not fill a file of fixed size, heads with several outputs, refused models."""

import copy
import importlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmdet.models import SingleStageDetector
from mmdet.registry import MODELS
from mmengine.dataset import pseudo_collate
from PIL import Image
from small_models import DECODED, built, config_of, detector

from edgenext_mm import inference_model
from edgenext_mm.datasets.image_pipeline import ImagePipeline, input_shape
from edgenext_mm.deployment import ExportedModel, export
from edgenext_mm.deployment.calibration import default_images, normalised_images
from edgenext_mm.errors import UserError

#: Photographs of 128x85, 85x128 and 96x128 pixels, once the longer side is resized to 128.
PHOTOGRAPHS = [default_images()[0][:300, :200], default_images()[1][:200, :300],
               default_images()[0][:240, :320]]  # fmt: skip


def segmentor(folder, padded, head=None, **settings):
    """A segmentor for images up to 128x128, which mmseg itself pads to that, or does not."""
    config = config_of('segmentor')
    config.model.data_preprocessor.test_cfg = dict(size=(128, 128)) if padded else None
    config.test_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(128, 128), keep_ratio=True),
        dict(type='PackSegInputs'),
    ]
    if head:
        common = dict(in_channels=168, in_index=3, channels=16, num_classes=11)
        config.model.backbone.out_indices = (0, 1, 2, 3)
        config.model.auxiliary_head = None
        loss = dict(type='CrossEntropyLoss')
        norm = dict(type='BN')
        config.model.decode_head = {**common, 'norm_cfg': norm, 'loss_decode': loss, **head}
    config.merge_from_dict(dict(model=settings))
    return built(config, folder)


@torch.no_grad()
def logits_of(model, image):
    (sample,) = model.test_step(pseudo_collate([ImagePipeline(model.cfg)(image)]))
    return sample.seg_logits.data


ENCODING = dict(
    type='EncHead',
    in_channels=[48, 88, 168],
    in_index=(1, 2, 3),
    num_codes=4,
    loss_se_decode=dict(type='CrossEntropyLoss', use_sigmoid=True),
)


@pytest.mark.parametrize(
    ('head', 'settings'),
    [
        (None, {}),
        (dict(type='DAHead', pam_channels=8), {}),
        (ENCODING, {}),
        (None, dict(test_cfg=dict(mode='slide', crop_size=(128, 128), stride=(80, 80)))),
    ],
)
def test_masks_equal_those_of_images_that_mmseg_pads(head, settings, tmp_path):
    expected = segmentor(tmp_path, True, copy.deepcopy(head), **settings)
    exported = segmentor(tmp_path, False, copy.deepcopy(head), **settings)
    export(exported, tmp_path / 'model', 'torchscript', (128, 128))
    exported = ExportedModel(tmp_path / 'model.torchscript')
    for image in PHOTOGRAPHS:
        logits = logits_of(expected, image)
        assert len(logits.argmax(0).unique()) > 1
        torch.testing.assert_close(logits_of(exported, image), logits, rtol=0, atol=1e-3)
        mask = inference_model(exported, image)['sem_seg']
        assert (mask == logits.argmax(0).numpy()).mean() > 0.999


def test_a_file_for_other_crops_is_refused(tmp_path):
    sliding = dict(mode='slide', crop_size=(96, 96), stride=(64, 64))
    model = segmentor(tmp_path, False, test_cfg=sliding)
    assert input_shape(model.cfg) == (96, 96)
    with pytest.raises(UserError, match=r'crops of 96x96.*--shape 96 96'):
        export(model, tmp_path / 'model', 'torchscript', (128, 128))


def test_a_classifier_takes_no_padding(tmp_path):
    config = config_of('classifier')
    steps = [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=64)]
    steps.append(dict(type='PackInputs'))
    config.merge_from_dict({'test_dataloader.dataset.pipeline': steps})
    model = built(config, tmp_path)
    with pytest.raises(UserError, match=r'no Resize.*--shape H W'):
        input_shape(model.cfg)
    export(model, tmp_path / 'model', 'torchscript', (64, 128))
    path = tmp_path / 'model.torchscript'
    message = r'64x128 pixels.*, got 64x96.*padding as part of the image.*--dynamic'
    with pytest.raises(UserError, match=message):
        inference_model(path, PHOTOGRAPHS[1])
    with pytest.raises(UserError, match=message):
        list(normalised_images(model, PHOTOGRAPHS[1:2], (64, 128)))
    whole = default_images()[0][:200, :400]
    np.testing.assert_allclose(
        inference_model(path, whole)['pred_scores'],
        inference_model(model, whole)['pred_scores'],
        atol=1e-5,
    )


def test_several_labels_stay_several(tmp_path):
    config = config_of('classifier')
    config.model.head = dict(
        type='MultiLabelLinearClsHead',
        num_classes=10,
        in_channels=168,
        thr=0.5,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
    )
    model = built(config, tmp_path)
    torch.nn.init.normal_(model.head.fc.weight, std=0.5)
    export(model, tmp_path / 'model', 'torchscript', (64, 64))
    exported = ExportedModel(tmp_path / 'model.torchscript')
    data = pseudo_collate([ImagePipeline(model.cfg)(PHOTOGRAPHS[0])])
    with torch.no_grad():
        (expected,) = model.test_step(copy.deepcopy(data))
    (actual,) = exported.test_step(data)
    assert len(expected.pred_label) > 1
    assert actual.pred_label.tolist() == expected.pred_label.tolist()
    torch.testing.assert_close(actual.pred_score, expected.pred_score, rtol=0, atol=1e-5)
    result = inference_model(exported, PHOTOGRAPHS[0])
    assert result['pred_labels'].tolist() == expected.pred_label.tolist()


# Models whose results need more than the outputs of one head.


@MODELS.register_module()
class ScaledDetector(SingleStageDetector):
    """A detector with a trained number outside its head."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = torch.nn.Parameter(torch.ones(()))

    def predict(self, *args, **kwargs):
        samples = super().predict(*args, **kwargs)
        for sample in samples:
            sample.pred_instances.scores *= self.factor
        return samples


def scaled(folder):
    model = detector(DECODED['fcos'], folder, {'model.type': 'ScaledDetector'})
    torch.nn.init.constant_(model.factor, 0.5)
    return model


def test_a_model_that_needs_more_than_its_head_is_refused(tmp_path):
    model = scaled(tmp_path)
    with pytest.raises(UserError, match=r'ScaledDetector cannot .*not enough to'):
        export(model, tmp_path / 'files' / 'model', 'torchscript', (128, 128))
    assert not (tmp_path / 'files').exists()


# Another process has registered nothing yet.

PROGRAM = """
import sys
from edgenext_mm import inference_model

for name in sys.argv[2:]:
    print('bboxes' in inference_model(name, sys.argv[1]))
"""


def test_another_process_runs_files_with_parts_of_this_package(tmp_path):
    """The neck of SSDLite and the head of the rotated detector are registered here."""
    image = tmp_path / 'photograph.png'
    Image.fromarray(np.ascontiguousarray(PHOTOGRAPHS[0][..., ::-1])).save(image)
    paths = [tmp_path / f'{name}.torchscript' for name in ('ssdlite', 'rotated')]
    for path in paths:
        export(built(config_of(path.stem), tmp_path), path, 'torchscript', (128, 128))
    command = [sys.executable, '-c', PROGRAM, image, *paths]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ['True', 'True'], done.stderr


def test_parts_that_cannot_be_imported_are_named(tmp_path, monkeypatch):
    (tmp_path / 'birds_parts.py').write_text(
        'from mmpretrain.registry import MODELS\nfrom mmpretrain.models import LinearClsHead\n'
        '@MODELS.register_module()\nclass BirdsHead(LinearClsHead):\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = config_of('classifier')
    config.custom_imports = dict(imports='birds_parts', allow_failed_imports=False)
    importlib.import_module('birds_parts')
    config.model.head.type = 'BirdsHead'
    export(built(config, tmp_path), tmp_path / 'model', 'torchscript', (64, 64))
    head = ExportedModel(tmp_path / 'model.torchscript').shell.head
    assert type(head).__name__ == 'BirdsHead'
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, 'birds_parts')
    with pytest.raises(UserError, match=r'birds_parts.*custom_imports.*PYTHONPATH'):
        ExportedModel(tmp_path / 'model.torchscript')

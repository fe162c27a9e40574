"""Distillation: loss, isolation of the teacher, errors."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from paths import DIGITS_CONFIG
from scipy.special import rel_entr, softmax

from edgenext_mm.config import load_config
from edgenext_mm.errors import UserError
from edgenext_mm.models.building import build_model

pytest.importorskip('mmpretrain')
from mmpretrain.structures import DataSample

from edgenext_mm.models.classifiers.distilled_classifier import kd_loss

PREPROCESSOR = dict(type='ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
HEAD = dict(
    type='LinearClsHead',
    num_classes=10,
    in_channels=168,
    loss=dict(type='CrossEntropyLoss'),
)
BACKBONE = dict(type='edgenext_mm.EdgeNeXt', arch='xxsmall', final_norm='auto')


def student(teacher, checkpoint, **kwargs):
    init_default_scope('mmpretrain')
    model = MODELS.build(
        dict(
            type='edgenext_mm.DistilledClassifier',
            backbone=BACKBONE,
            head=HEAD,
            data_preprocessor=PREPROCESSOR,
            teacher=teacher,
            teacher_checkpoint=checkpoint and str(checkpoint),
            **kwargs,
        )
    )
    model.init_weights()
    return model


@pytest.fixture
def batch():
    torch.manual_seed(0)
    samples = [DataSample().set_gt_label(i % 10) for i in range(4)]
    return torch.rand(4, 3, 64, 64) * 2 - 1, samples


@pytest.mark.parametrize('temperature', [1, 4])
def test_the_divergence_agrees_with_scipy(temperature):
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(8, 30, generator=generator, dtype=torch.double) for _ in range(2))
    p, q = (softmax(x.numpy() / temperature, axis=1) for x in (theirs, ours))
    expected = rel_entr(p, q).sum() / 8 * temperature**2
    assert kd_loss(ours, theirs, temperature).item() == pytest.approx(expected, rel=1e-5)
    assert kd_loss(theirs, theirs).item() == pytest.approx(0, abs=1e-6)


def test_the_loss_is_that_of_the_head_and_the_weighted_divergence(digits_checkpoint, batch):
    model = student(str(DIGITS_CONFIG), digits_checkpoint, kd_weight=3.0, temperature=2.0)
    model.eval()
    losses = model.loss(*batch)
    teacher = build_model(load_config(DIGITS_CONFIG)).eval()
    teacher.load_state_dict(torch.load(digits_checkpoint)['state_dict'])
    divergence = kd_loss(model(batch[0]), teacher(batch[0]), 2.0)
    assert losses['loss_kd'].item() == pytest.approx(3 * divergence.item(), rel=1e-5)
    labels = torch.tensor([0, 1, 2, 3])
    expected = torch.nn.functional.cross_entropy(model(batch[0]), labels)
    assert losses['loss'].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_teacher_is_not_changed(digits_checkpoint, batch):
    model = student(str(DIGITS_CONFIG), digits_checkpoint)
    model.train()
    teacher = model.teacher.model
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = model.loss(*batch)
    sum(losses.values()).backward()
    optimizer.step()
    assert not teacher.training
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    torch.testing.assert_close(dict(teacher.state_dict()), before, rtol=0, atol=0)
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


def test_only_the_student_is_saved_and_optimised(digits_checkpoint):
    model = student(str(DIGITS_CONFIG), digits_checkpoint)
    plain = build_model(load_config(DIGITS_CONFIG))
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert len(list(model.parameters())) == len(list(plain.parameters()))


def test_the_images_are_normalised_for_the_teacher(digits_checkpoint, batch):
    config = load_config(DIGITS_CONFIG).model
    own = dict(config.to_dict(), data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3))
    model = student(own, digits_checkpoint)
    raw = batch[0] * 127.5 + 127.5
    seen = []
    model.teacher.model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.teacher(batch[0], model.data_preprocessor)
    torch.testing.assert_close(seen[0], raw / 255, rtol=1e-5, atol=1e-5)


def test_a_timm_model_can_be_the_teacher(tmp_path, batch):
    import timm

    teacher = timm.create_model('edgenext_xx_small', num_classes=10)
    torch.save(teacher.state_dict(), tmp_path / 'timm.pth')
    cfg = dict(type='TimmClassifier', model_name='edgenext_xx_small', num_classes=10)
    model = student(cfg, tmp_path / 'timm.pth')
    with torch.no_grad():
        expected = teacher.eval()(batch[0])
    torch.testing.assert_close(model.teacher(batch[0], model.data_preprocessor), expected)


def test_a_teacher_with_other_classes_is_refused(digits_checkpoint, tmp_path, batch):
    config = load_config(DIGITS_CONFIG).model.to_dict()
    config['head'] = dict(HEAD, num_classes=20)
    with pytest.raises(UserError, match=r'head\.fc\.weight \(10x168 in the file, 20x168 here'):
        student(config, digits_checkpoint)
    torch.save(MODELS.build(config).state_dict(), tmp_path / 'twenty.pth')
    model = student(config, tmp_path / 'twenty.pth')
    with pytest.raises(UserError, match='The teacher has 20 classes, but the student has 10'):
        model.loss(*batch)


def test_a_teacher_without_weights_is_refused():
    with pytest.raises(UserError, match='would have random weights'):
        student(str(DIGITS_CONFIG), None)

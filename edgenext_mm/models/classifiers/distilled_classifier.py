"""Knowledge distillation for classifiers, as in USI."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from torch import Tensor, nn

from ...checkpoints.finding import read_checkpoint
from ...errors import UserError
from ...registry import MODELS
from ..loading import check_weights, weights_of


class Teacher:
    """A trained classifier in evaluation mode.

    It is not an ``nn.Module``, so that it is not saved, averaged, trained or distributed with the
    student.

    Args:
        model: Classifier of mmpretrain. If its data preprocessor normalises images, they are
            normalised for the teacher. Otherwise it gets the images of the student.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, student: nn.Module) -> Tensor:
        """Returns (B, K) logits.

        Args:
            inputs: (B, 3, H, W) images that are normalised for the student.
            student: Data preprocessor of the student.
        """
        own = self.model.data_preprocessor
        if next(self.model.parameters()).device != inputs.device:
            self.model.to(inputs.device)
        if hasattr(own, 'mean'):
            inputs = (inputs * student.std + student.mean - own.mean) / own.std
        return self.model(inputs, mode='tensor')


@MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier`` with a distillation loss.

    The loss is the loss of the head plus ``kd_weight`` times the Kullback-Leibler divergence
    between the predictions of teacher and student, averaged over the batch. Checkpoints contain
    the student only. Testing and inference do not need the teacher.

    Args:
        teacher: Config of a classifier in mmpretrain's registry (``TimmClassifier`` for models of
            timm), or the path of a config file whose ``model`` is such a classifier.
        teacher_checkpoint: Path or URL of the weights of the teacher. Default: None, for a
            ``TimmClassifier`` with ``pretrained=True``.
        kd_weight: Weight of the divergence. Default: 5.
        temperature: Divisor of the logits before the softmax. The divergence is multiplied by its
            square. Default: 1.
        kwargs: Other arguments of ``ImageClassifier``.

    Source: Solving ImageNet: a Unified Scheme for Training any Backbone to Top Results,
    arXiv 2204.03475.
    """

    def __init__(
        self,
        teacher: dict | str,
        teacher_checkpoint: str | None = None,
        kd_weight: float = 5.0,
        temperature: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.teacher_cfg = teacher
        self.teacher_checkpoint = teacher_checkpoint
        self.kd_weight = kd_weight
        self.temperature = temperature
        self.teacher: Teacher | None = None

    def init_weights(self) -> None:
        """Initialises the student and loads the teacher.

        Raises:
            UserError: If the weights of the teacher are missing or do not fit.
        """
        super().init_weights()
        self.teacher = load_teacher(self.teacher_cfg, self.teacher_checkpoint)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Computes the losses of the head and ``loss_kd``.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: Labels of the images.

        Raises:
            UserError: If teacher and student have different numbers of classes.
        """
        if self.teacher is None:  # without mmengine's runner, which calls init_weights()
            self.teacher = load_teacher(self.teacher_cfg, self.teacher_checkpoint)
        feats = self.extract_feat(inputs)
        losses = self.head.loss(feats, data_samples)
        student, teacher = self.head(feats), self.teacher(inputs, self.data_preprocessor)
        if student.shape != teacher.shape:
            raise UserError(
                f'The teacher has {teacher.shape[1]} classes, but the student has '
                f'{student.shape[1]}. Use a teacher that was trained on the same classes.'
            )
        losses['loss_kd'] = self.kd_weight * kd_loss(student, teacher, self.temperature)
        return losses


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes the divergence KL(teacher || student), averaged over the batch.

    Args:
        student: (B, K) logits.
        teacher: (B, K) logits.
        temperature: See :class:`DistilledClassifier`. Default: 1.
    """
    student, teacher = student.float() / temperature, teacher.float() / temperature
    log_p, log_q = teacher.log_softmax(dim=1), student.log_softmax(dim=1)
    divergence = F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)
    return divergence * temperature**2


def load_teacher(teacher: dict | str, checkpoint: str | None) -> Teacher:
    """Builds a teacher and loads its weights.

    Args:
        teacher: See :class:`DistilledClassifier`.
        checkpoint: ``teacher_checkpoint`` of :class:`DistilledClassifier`.

    Raises:
        UserError: If there are no weights, or they do not fit.
    """
    if isinstance(teacher, str):
        if not Path(teacher).is_file():
            raise UserError(f'The config file {teacher} of the teacher does not exist.')
        config = Config.fromfile(teacher)
        cfg = {'data_preprocessor': config.get('data_preprocessor'), **config.model}
    else:
        cfg = deepcopy(teacher)
    if checkpoint is None and not cfg.get('pretrained'):
        raise UserError(
            f'The teacher {cfg["type"]} would have random weights. Set `teacher_checkpoint` to the '
            'path or URL of its weights, e.g. --cfg-options model.teacher_checkpoint=FILE.'
        )
    model = MMPRETRAIN_MODELS.build(cfg)
    if checkpoint is not None:
        weights = weights_of(read_checkpoint(checkpoint), model)
        check_weights(model, weights, checkpoint)
        model.load_state_dict(weights)
    return Teacher(model)

"""Knowledge distillation for classifiers, as USI does it."""

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
    """A trained classifier in evaluation mode that only answers.

    It is no module, so that it is not saved, averaged, trained or distributed with its student.

    Args:
        model: Of mmpretrain. Where its data preprocessor normalises, its images are normalised as
            it says, else they are those of the student.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, student: nn.Module) -> Tensor:
        """(B, K) logits of (B, 3, H, W) images that are normalised for a student.

        Args:
            inputs: The images.
            student: The student's data preprocessor.
        """
        own = self.model.data_preprocessor
        if next(self.model.parameters()).device != inputs.device:
            self.model.to(inputs.device)
        if hasattr(own, 'mean'):
            inputs = (inputs * student.std + student.mean - own.mean) / own.std
        return self.model(inputs, mode='tensor')


@MODELS.register_module()
class DistilledClassifier(ImageClassifier):
    """mmpretrain's ``ImageClassifier``, trained to agree with a teacher as well.

    The loss is that of the head plus ``kd_weight`` times the Kullback-Leibler divergence of
    student from teacher on the same images, in the mean over the batch. Checkpoints hold the
    student alone; testing and inference need no teacher.

    Args:
        teacher: The config of any classifier of mmpretrain's registry (``TimmClassifier`` serves
            timm's models), or the path of a config file that has one as its ``model``.
        teacher_checkpoint: Path or URL of its weights. Default: None, for a ``TimmClassifier``
            with ``pretrained=True``.
        kd_weight: Weight of the divergence. Default: 5.
        temperature: What logits are divided by before the softmax; the divergence is multiplied by
            its square. Default: 1.
        **kwargs: Those of ``ImageClassifier``.

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
        """Initialises the student, and loads the teacher.

        Raises:
            UserError: If the teacher's weights are missing or are not those of its model.
        """
        super().init_weights()
        self.teacher = load_teacher(self.teacher_cfg, self.teacher_checkpoint)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """The losses of the head, and ``loss_kd``.

        Args:
            inputs: (B, 3, H, W) normalised images.
            data_samples: Their labels.
        """
        if self.teacher is None:  # used without mmengine's runner, which initialises weights
            self.teacher = load_teacher(self.teacher_cfg, self.teacher_checkpoint)
        feats = self.extract_feat(inputs)
        losses = self.head.loss(feats, data_samples)
        student, teacher = self.head(feats), self.teacher(inputs, self.data_preprocessor)
        if student.shape != teacher.shape:
            raise UserError(
                f'The teacher knows {teacher.shape[1]} classes, the student {student.shape[1]}. '
                'Take a teacher that was trained on the same classes.'
            )
        losses['loss_kd'] = self.kd_weight * kd_loss(student, teacher, self.temperature)
        return losses


def kd_loss(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """The divergence KL(teacher || student), in the mean over the batch.

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
    """Builds a teacher with its weights; arguments as of :class:`DistilledClassifier`.

    Raises:
        UserError: If there are no weights, or they are not those of the model.
    """
    if isinstance(teacher, str):
        if not Path(teacher).is_file():
            raise UserError(f'There is no config {teacher} of a teacher.')
        config = Config.fromfile(teacher)
        cfg = {'data_preprocessor': config.get('data_preprocessor'), **config.model}
    else:
        cfg = deepcopy(teacher)
    if checkpoint is None and not cfg.get('pretrained'):
        raise UserError(
            f'The teacher {cfg["type"]} would have random weights. Give `teacher_checkpoint` the '
            'path or URL of its weights; --cfg-options model.teacher_checkpoint=FILE does.'
        )
    model = MMPRETRAIN_MODELS.build(cfg)
    if checkpoint is not None:
        weights = weights_of(read_checkpoint(checkpoint), model)
        check_weights(model, weights, checkpoint)
        model.load_state_dict(weights)
    return Teacher(model)

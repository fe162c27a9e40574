"""What of a checkpoint a training starts from."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..errors import UserError
from ..models.loading import check_archs


class LoadReportHook(Hook):
    """Leaves out what does not fit when ``load_from`` is loaded, and says so in one line.

    That is how fine-tuning on another number of classes goes: the head of the checkpoint is of
    another shape, and starts anew. Resuming is not affected.
    """

    priority = 'VERY_HIGH'  # before a moving average takes its copy

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Called with what the file holds, before the model takes it.

        Raises:
            UserError: If the model has none of the names, or the weights are of another arch.
        """
        if runner._resume:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        own = model.state_dict()
        weights = checkpoint.get('state_dict', checkpoint)
        unused = sorted(k for k in weights if k not in own)
        if len(unused) == len(weights):
            raise UserError(
                f'{runner._load_from} holds none of the weights of this model: it has '
                f'{", ".join(unused[:3])}, the model {", ".join(list(own)[:3])}. Files in the '
                "authors' format need tools/model_converters/convert_checkpoint.py first."
            )
        check_archs(model, weights)
        shapes = [k for k in own if k in weights and weights[k].shape != own[k].shape]
        anew = [
            f'{k} ({_shape(weights.pop(k))} in the file, {_shape(own[k])} here)' for k in shapes
        ]
        anew += sorted(k for k in own if k not in weights and k not in shapes)
        runner.logger.info(
            f'From {runner._load_from}: {len(own) - len(anew)} of {len(own)} tensors. '
            f'Starting anew: {", ".join(anew) or "none"}. '
            f'In the file and not used: {", ".join(unused) or "none"}.'
        )


def _shape(tensor: Any) -> str:
    return 'x'.join(map(str, tensor.shape))

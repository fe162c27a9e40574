"""Core ML files (.mlpackage), converted from TorchScript by coremltools.

Core ML runs on Apple's systems only. Elsewhere, :mod:`.mil` computes what the program in the file
says, so that a faulty conversion is found; speed and results on a device are not checked.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..runtime.metadata import KEY, Metadata
from . import torch_files
from .content import Content
from .mil import Program

#: Outputs of a file with the scores of a classifier.
SCORES = ('scores',)
#: Output of Core ML's classifiers with a score for each class name; the other is `classLabel`.
LABELLED_SCORES = 'classLabel_probs'


def write(content: Content, path: Path) -> None:
    """Writes a Core ML file, for iOS 16, macOS 13 and later."""
    with _silent():
        import coremltools as ct

        metadata, network, example = content.metadata, content.network, content.example
        half = metadata.precision != 'fp32'
        kind = ct.TensorType
        if 'preprocess' in metadata.include:  # the input is an image, as Vision and Swift give it
            network, example = ChannelsFirst(network), example.permute(0, 3, 1, 2).float()
            kind = ct.ImageType
        labels = None
        if metadata.outputs == SCORES and metadata.classes:
            labels = ct.ClassifierConfig(list(metadata.classes))
        model = ct.convert(
            torch_files.trace(network, example),
            inputs=[kind('images', tuple(example.shape))],
            outputs=None if labels else [ct.TensorType(name) for name in metadata.outputs],
            classifier_config=labels,
            convert_to='mlprogram',
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT16 if half else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        if metadata.precision == 'int8':
            model = _with_int8_weights(model)
        model.user_defined_metadata[KEY] = metadata.to_json()
        model.user_defined_metadata['classes'] = ','.join(metadata.classes)
        model.short_description = f'EdgeNeXt for {metadata.task.replace("_", " ")}'
        model.save(str(path))


def _with_int8_weights(model: Any) -> Any:
    """Returns a Core ML model whose large weights are INT8, with one range per output channel.

    Core ML computes in FP16 with them.
    """
    from coremltools.optimize import coreml as optimize

    settings = optimize.OpLinearQuantizerConfig(mode='linear_symmetric', weight_threshold=512)
    config = optimize.OptimizationConfig(global_config=settings)
    return optimize.linear_quantize_weights(model, config=config)


class ChannelsFirst(nn.Module):
    """Runs a network that takes (B, H, W, 3) pixels on (B, 3, H, W) ones.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs of the network."""
        return self.network(x.permute(0, 2, 3, 1))


class CoremlSession:
    """Runs the program of a Core ML file in PyTorch, one image at a time.

    Args:
        path: Path of the file.
        threads: Number of CPU threads of this process. Default: PyTorch's.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            with _silent():
                import coremltools as ct

                model = ct.models.MLModel(str(path), skip_model_load=True)
                self._program = Program(model.get_spec(), model.weights_dir)
        except Exception as error:  # coremltools raises many kinds, also from C++
            raise UserError(f'{path} cannot be read as Core ML: {error}') from error
        self.metadata = Metadata.from_json(model.user_defined_metadata.get(KEY), path)
        if threads:
            torch.set_num_threads(threads)

    def __call__(self, x: Tensor, extra: Mapping[str, Tensor] | None = None) -> list[Tensor]:
        """Returns the outputs; see :class:`~.content.Session`."""
        images = x.detach().cpu()
        if 'preprocess' in self.metadata.include:
            images = images.permute(0, 3, 1, 2).float()
        outputs = self._program(images=images)
        if LABELLED_SCORES in outputs:
            by_name = outputs[LABELLED_SCORES]
            return [torch.tensor([[by_name[name] for name in self.metadata.classes]])]
        return [outputs[name] for name in self.metadata.outputs]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Hides progress bars, and that coremltools was tested with other versions."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


open_session = CoremlSession

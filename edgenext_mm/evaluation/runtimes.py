"""Ways to run a model for a benchmark, each as a call without arguments."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from ..deployment import switch_to_deploy
from ..deployment.formats import FORMATS, require
from ..deployment.heads import DTYPES, Cast
from ..errors import UserError
from ..models import EdgeNeXt
from .latency import inference_call

Call = Callable[[], object]


def deployed(model: nn.Module, layout: str, size: tuple[int, int]) -> nn.Module:
    """The deploy form of a model that holds an EdgeNeXt of ours; others as they are."""
    ours = any(isinstance(module, EdgeNeXt) for module in model.modules())
    return switch_to_deploy(model, layout, size) if ours else model


def eager(model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """PyTorch as it is."""
    dtype = DTYPES[precision]
    return inference_call(model.to(x.device, dtype), x.to(dtype))


def deploy(model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """PyTorch on the deploy form."""
    size = (x.shape[-2], x.shape[-1])
    return eager(deployed(model, FORMATS['torch-export'].layout, size), x, precision, threads)


def compiled(model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """``torch.compile``, on the deploy form."""
    size = (x.shape[-2], x.shape[-1])
    model = deployed(model, FORMATS['torch-export'].layout, size).to(x.device, DTYPES[precision])
    with torch.no_grad():
        call = inference_call(torch.compile(model), x.to(DTYPES[precision]))
        call()
    return call


def onnxruntime(model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """ONNX Runtime on torch's export of the deploy form."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with _onnx_file(model, x, 'onnx', precision) as path:
        session = onnxruntime.InferenceSession(
            path, options, providers=onnxruntime.get_available_providers()
        )
    inputs = {session.get_inputs()[0].name: x.cpu().numpy()}
    return lambda: session.run(None, inputs)


def openvino(model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """OpenVINO on torch's export of the deploy form."""
    import openvino

    core = openvino.Core()
    offered = core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if precision == 'bf16' and 'BF16' not in offered:
        raise UserError(f'This CPU has no bf16; OpenVINO offers {", ".join(offered)}.')
    hint = {'fp32': 'f32', 'fp16': 'f16', 'bf16': 'bf16'}[precision]
    settings = {'INFERENCE_PRECISION_HINT': hint, 'INFERENCE_NUM_THREADS': threads}
    with _onnx_file(model, x, 'openvino', 'fp32') as path:
        request = core.compile_model(openvino.convert_model(path), 'CPU', settings)
    request = request.create_infer_request()
    image = x.cpu().numpy()
    return lambda: request.infer(image, share_inputs=True)


RUNTIMES = {
    'eager': eager,
    'deploy': deploy,
    'compile': compiled,
    'onnxruntime': onnxruntime,
    'openvino': openvino,
}


def prepare(runtime: str, model: nn.Module, x: Tensor, precision: str, threads: int) -> Call:
    """A call that runs a model on images.

    Args:
        runtime: One of :data:`RUNTIMES`.
        model: Maps images to a tensor or a tuple of them.
        x: (B, 3, H, W) images, on the device to run on.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        threads: CPU threads.

    Raises:
        UserError: If there is no such runtime, or it cannot run here.
    """
    if runtime not in RUNTIMES:
        raise UserError(f'Unknown runtime {runtime!r}. Choose from {", ".join(RUNTIMES)}.')
    for package in {'onnxruntime': FORMATS['onnx'], 'openvino': FORMATS['openvino']}.get(
        runtime, FORMATS['torch-export']
    ).packages:
        require(package, f'the runtime {runtime}')
    return RUNTIMES[runtime](model.eval(), x, precision, threads)


@contextmanager
def _onnx_file(model: nn.Module, x: Tensor, kind: str, precision: str) -> Iterator[Path]:
    from ..deployment.export import quiet

    if precision == 'bf16':
        raise UserError('ONNX Runtime has no bf16 on CPUs.')
    network = deployed(model, FORMATS[kind].layout, (x.shape[-2], x.shape[-1])).cpu()
    if precision == 'fp16':
        network = Cast(network, precision)
    with tempfile.TemporaryDirectory() as folder, quiet(), torch.no_grad():
        path = Path(folder, 'model.onnx')
        torch.onnx.export(network, (x.cpu(),), path, dynamo=True, verbose=False)
        yield path

"""Runtimes for benchmarks. Each gives a call without arguments that runs a model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from edgenext_mm.deployment import switch_to_deploy
from edgenext_mm.deployment.content import Content
from edgenext_mm.deployment.exporter import quiet
from edgenext_mm.deployment.file_formats import backend, open_session
from edgenext_mm.deployment.form import LAYOUT_BY_FORMAT
from edgenext_mm.deployment.heads import DTYPES, Cast
from edgenext_mm.errors import UserError
from edgenext_mm.models import EdgeNeXt
from edgenext_mm.runtime.formats import FORMATS, require, with_ending
from edgenext_mm.runtime.metadata import Metadata

from .latency import Call, inference_call


class Settings(NamedTuple):
    """Settings of a runtime.

    Args:
        precision: ``fp32``, ``fp16``, ``bf16`` or ``int8``. Default: ``fp32``.
        threads: CPU threads. Default: 2.
        channels_last: Whether PyTorch uses channels-last images and weights. Default: False.
        cuda_graphs: Whether PyTorch replays a recorded CUDA graph. Default: False.
    """

    precision: str = 'fp32'
    threads: int = 2
    channels_last: bool = False
    cuda_graphs: bool = False


class Runtime(NamedTuple):
    """A runtime.

    Args:
        prepare: Makes the call that runs a model on images.
        precisions: Supported precisions. Default: those of PyTorch.
        in_torch: Whether it is part of PyTorch. Default: True.
        packages: Packages that it needs. Default: none.
    """

    prepare: Callable[[nn.Module, Tensor, Settings], Call]
    precisions: tuple[str, ...] = tuple(DTYPES)
    in_torch: bool = True
    packages: tuple[str, ...] = ()


def find_runtime(name: str) -> Runtime:
    """Finds a runtime by name.

    Raises:
        UserError: If it is unknown.
    """
    if name not in RUNTIMES:
        raise UserError(f'Unknown runtime {name!r}. Choose from {", ".join(RUNTIMES)}.')
    return RUNTIMES[name]


def prepare(runtime: str, model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """Makes a call that runs a model on images.

    Args:
        runtime: Key of :data:`RUNTIMES`.
        model: Model that maps images to a tensor or a tuple of tensors.
        x: (B, 3, H, W) images on the device to run on.
        settings: Settings of the runtime.

    Raises:
        UserError: If the runtime is unknown, is not installed or does not support the settings.
    """
    chosen = find_runtime(runtime)
    if settings.precision not in chosen.precisions:
        raise UserError(
            f'{runtime} supports {", ".join(chosen.precisions)}, not {settings.precision}.'
        )
    for package in chosen.packages:
        require(package, f'the runtime {runtime}')
    return chosen.prepare(model.eval(), x, settings)


def deployed(model: nn.Module, layout: str, x: Tensor) -> nn.Module:
    """The deploy form of a model with our backbone; other models are returned unchanged."""
    ours = any(isinstance(module, EdgeNeXt) for module in model.modules())
    return switch_to_deploy(model, layout, (x.shape[-2], x.shape[-1])) if ours else model


def eager(model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """PyTorch."""
    dtype = DTYPES[settings.precision]
    model, x = model.to(x.device, dtype), x.to(dtype)
    if settings.channels_last:
        model, x = (value.to(memory_format=torch.channels_last) for value in (model, x))
    call = inference_call(model, x)
    return _recorded(call) if settings.cuda_graphs else call


def deploy(model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """PyTorch with the deploy form."""
    return eager(deployed(model, LAYOUT_BY_FORMAT['torch-export'], x), x, settings)


def compiled(model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """``torch.compile`` with the deploy form."""
    model = deployed(model, LAYOUT_BY_FORMAT['torch-export'], x)
    call = eager(torch.compile(model), x, settings)
    call()
    return call


def onnxruntime(model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """ONNX Runtime with the deploy form, on the devices that it finds."""
    session = onnxruntime_session(model, x, settings)
    inputs = {'images': x.cpu().numpy()}
    return lambda: session.run(None, inputs)


def onnxruntime_session(
    model: nn.Module, x: Tensor, settings: Settings, profile: str | None = None
) -> Any:
    """Makes an ``onnxruntime.InferenceSession``.

    Args:
        model: Model that maps images to a tensor or a tuple of tensors.
        x: (B, 3, H, W) images.
        settings: Settings of the runtime.
        profile: Prefix of the file to which the time of each node is written. Default: no file.
    """
    import onnxruntime

    from edgenext_mm.deployment.int8 import Int8Settings
    from edgenext_mm.deployment.onnx_files import quantize

    options = onnxruntime.SessionOptions()
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    options.intra_op_num_threads = settings.threads
    options.log_severity_level = 3
    # Otherwise, idle threads would spin and slow down the model that is timed next.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    with _onnx_file(model, x, 'onnx', half=settings.precision == 'fp16') as path:
        if settings.precision == 'int8':
            quantize(path, [x.cpu()], Int8Settings('asymmetric'))
        return onnxruntime.InferenceSession(
            path, options, providers=onnxruntime.get_available_providers()
        )


def openvino(model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """OpenVINO with the deploy form, on the CPU."""
    request = openvino_request(model, x, settings)
    image = x.cpu().numpy()
    return lambda: request.infer(image, share_inputs=True)


def openvino_request(model: nn.Module, x: Tensor, settings: Settings, profile: bool = False) -> Any:
    """Makes an ``openvino.InferRequest``.

    Args:
        model: Model that maps images to a tensor or a tuple of tensors.
        x: (B, 3, H, W) images.
        settings: Settings of the runtime.
        profile: Whether to record the time of each node. Default: False.

    Raises:
        UserError: If the CPU does not support the precision.
    """
    import openvino

    from edgenext_mm.deployment.openvino_files import quantize
    from edgenext_mm.runtime.sessions.openvino import arithmetic, core

    offered = core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if settings.precision.upper() not in offered:
        raise UserError(
            f'OpenVINO has no {settings.precision} on this CPU, only {", ".join(offered)}.'
        )
    hint = 'f16' if settings.precision == 'fp16' else arithmetic(settings.precision)
    with _onnx_file(model, x, 'openvino') as path:
        graph = openvino.convert_model(path)
    if settings.precision == 'int8':
        graph = quantize(graph, [x.cpu()])
    options = {'INFERENCE_PRECISION_HINT': hint, 'INFERENCE_NUM_THREADS': settings.threads}
    return (
        core().compile_model(graph, 'CPU', options | {'PERF_COUNT': profile}).create_infer_request()
    )


def converted(kind: str, model: nn.Module, x: Tensor, settings: Settings) -> Call:
    """A file for phones and boards with the deploy form, run on the CPU for one image.

    ExecuTorch runs in a process of its own; sending the image is part of its time.

    Args:
        kind: A format that :func:`~edgenext_mm.deployment.export` writes.
        model: Model that maps images to a tensor or a tuple of tensors.
        x: (1, 3, H, W) images.
        settings: Settings of the runtime.
    """
    metadata = Metadata(
        task='classification',
        classes=(),
        outputs=('logits',),
        structure=None,
        shape=(x.shape[-2], x.shape[-1]),
        dynamic=(),
        include=(),
        precision=settings.precision,
        preprocessing={},
        results={},
        config={},
    )
    network = deployed(model, LAYOUT_BY_FORMAT[kind], x).cpu()
    calibration = [x.cpu()] if settings.precision == 'int8' else []
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = with_ending(Path(folder, 'model'), kind)
        content = Content(network, x.cpu(), metadata, calibration=calibration)
        backend(kind).write(content, path)
        session = open_session(path, settings.threads)
        session(x)  # the file may be read when it runs first
    return lambda: session(x)


def _converted(kind: str) -> Runtime:
    packages = (*FORMATS[kind].writes, *filter(None, [FORMATS[kind].runs]))
    return Runtime(partial(converted, kind), FORMATS[kind].precisions, False, packages)


_ONNX, _OPENVINO = FORMATS['onnx'], FORMATS['openvino']
RUNTIMES = {
    'eager': Runtime(eager),
    'deploy': Runtime(deploy),
    'compile': Runtime(compiled),
    'onnxruntime': Runtime(onnxruntime, _ONNX.precisions, False, ('onnxruntime', *_ONNX.writes)),
    'openvino': Runtime(openvino, _OPENVINO.precisions, False, ('openvino', *_OPENVINO.writes)),
    'litert': _converted('litert'),
    'executorch': _converted('executorch'),
    'ncnn': _converted('ncnn'),
}


def _recorded(call: Call) -> Call:
    """Records a call on a GPU, and replays all its kernels at once."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):  # preparations of the first calls must not be recorded
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


@contextmanager
def _onnx_file(model: nn.Module, x: Tensor, kind: str, half: bool = False) -> Iterator[Path]:
    import onnx

    from edgenext_mm.deployment.onnx_files import to_onnx

    network = deployed(model, LAYOUT_BY_FORMAT[kind], x).cpu()
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder, 'model.onnx')
        onnx.save(to_onnx(Cast(network, 'fp16') if half else network, x.cpu()), path)
        yield path

"""Writes and runs ExecuTorch files. Runs in the environment of ExecuTorch.

Usage:
    executorch.py convert PROGRAM.pt2 METADATA.json MODEL.pte [CALIBRATION.npz]
                           prints operators outside XNNPACK
    executorch.py run MODEL.pte THREADS    answers arrays on its input with arrays on its output

With inputs for calibration, weights and inputs of convolutions and linear layers become INT8.
Each message of ``run`` is a line with the number of bytes, and so many bytes: an array or, from the
program, several arrays in NumPy's .npz format. The first message holds the metadata.
"""

import collections
import io
import json
import os
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch


def convert(program_path: str, metadata: str, path: str, calibration: str = '') -> None:
    """Writes a file, and prints how often each operator runs outside of XNNPACK, as JSON."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with open(metadata) as file:
        text = file.read()
    program = torch.export.load(program_path)
    if calibration:
        program = quantized(program, calibration)
    edge = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        constant_methods={'edgenext_mm': text},
    )
    outside: collections.Counter = collections.Counter()
    for node in edge.exported_program().graph.nodes:
        name = getattr(node.target, '__name__', str(node.target))
        if node.op == 'call_function' and name not in ('getitem', 'executorch_call_delegate'):
            outside[name] += 1
    with open(path, 'wb') as file:
        file.write(edge.to_executorch().buffer)
    print(json.dumps(outside))


def quantized(program: Any, calibration: str) -> Any:
    """Returns a quantized program.

    Norms, softmax and the products of attention stay in floating point: they need more than eight
    bits. Means of norms are convolutions whose weights are buffers. Depth-wise ones stay, too:
    between other INT8 operators, XNNPACK refuses some.
    """
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e import MinMaxObserver
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    config = get_symmetric_quantization_config(is_per_channel=True)
    ranges = MinMaxObserver.with_args(eps=2**-12)
    whole_range = {
        kind: replace(getattr(config, kind), observer_or_fake_quant_ctr=ranges)
        for kind in ('input_activation', 'output_activation')
    }
    config = replace(config, **whole_range)
    quantizer = XNNPACKQuantizer()
    for operator in (torch.ops.aten.conv2d.default, torch.ops.aten.linear.default):
        quantizer.set_operator_type(operator, config)
    (example,), _ = program.example_inputs
    network = program.module()
    separate_weights(network)
    trained = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    quantizer.set_filter_function(
        lambda node: not is_depthwise(node) and trained.issuperset(weights_of(node))
    )
    network = prepare_pt2e(network, quantizer)
    with np.load(calibration) as images, torch.no_grad():
        for name in images.files:
            network(torch.from_numpy(images[name]))
    return torch.export.export(convert_pt2e(network), (example,))


def weights_of(node: Any) -> list[str]:
    """Returns the names of the tensors that a node of a program takes besides its input."""
    return [arg.target for arg in node.all_input_nodes[1:] if arg.op == 'get_attr']


def separate_weights(network: torch.fx.GraphModule) -> None:
    """Gives each operator nodes of its own for weights that several operators share.

    The quantizer would quantize the first of these operators and the inputs of the others, which
    XNNPACK cannot run. The file still holds the weights once.
    """
    for node in [node for node in network.graph.nodes if node.op == 'get_attr']:
        for user in list(node.users)[1:]:
            with network.graph.inserting_before(user):
                user.replace_input_with(node, network.graph.node_copy(node))
    network.recompile()


def is_depthwise(node: Any) -> bool:
    """Whether a node of a program is a convolution with groups."""
    return node.target is torch.ops.aten.conv2d.default and len(node.args) > 6 and node.args[6] > 1


def run(path: str, threads: str) -> None:
    """Answers each array with the outputs of a file."""
    channel = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # libraries print to the standard output
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    if int(threads):
        portable_lib._unsafe_reset_threadpool(int(threads))
    program = Runtime.get().load_program(path)
    (text,) = program.load_method('edgenext_mm').execute([])
    forward = program.load_method('forward')
    _send(channel, [np.frombuffer(text.encode(), np.uint8)])
    while line := sys.stdin.buffer.readline():
        image = np.load(io.BytesIO(sys.stdin.buffer.read(int(line))))
        _send(channel, [output.numpy() for output in forward.execute([torch.from_numpy(image)])])


def _send(channel: Any, arrays: list) -> None:
    message = io.BytesIO()
    np.savez(message, *arrays)
    channel.write(b'%d\n' % message.tell() + message.getbuffer())
    channel.flush()


if __name__ == '__main__':
    (convert if sys.argv[1] == 'convert' else run)(*sys.argv[2:])

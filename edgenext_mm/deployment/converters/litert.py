"""Converts a torch.export program to a LiteRT file. Runs in the environment of litert-torch.

Usage: litert.py PROGRAM.pt2 MODEL.tflite [CALIBRATION.npz]

With inputs for calibration, weights and inputs of convolutions and linear layers become INT8.
"""

import contextlib
import re
import sys

import numpy as np
import torch


def main(program_path: str, path: str, calibration: str = '') -> None:
    import litert_torch

    # Without operators that work in place, which box coders lead to.
    program = torch.export.load(program_path).run_decompositions({})
    (example,), _ = program.example_inputs
    litert_torch.convert(program.module(), (example,)).export(path)
    if calibration:
        with contextlib.redirect_stdout(sys.stderr):
            quantize(path, calibration)
    shorten_names(path)


def quantize(path: str, calibration: str) -> None:
    """Quantizes a file, in place.

    Depth-wise convolutions stay in floating point: they hold few weights, and the conversion of
    their maps takes more time than INT8 saves. So do norms, softmax and the products of attention,
    which need more than eight bits.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe_manager
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.utils import qsv_utils

    recipe = recipe_manager.RecipeManager()
    for operator in (TFLOperationName.CONV_2D, TFLOperationName.FULLY_CONNECTED):
        recipe.add_static_config(
            regex='.*',
            operation_name=operator,
            activation_num_bits=8,
            weight_num_bits=8,
            algorithm_key='min_max_uniform_quantize',
        )
    signature = Interpreter(path).get_signature_runner()
    name = next(iter(signature.get_input_details()))
    tool = quantizer.Quantizer(path)
    tool.load_quantization_recipe(recipe.get_quantization_recipe())
    ranges: dict[str, dict] = {}
    with np.load(calibration) as images:
        # One image at a time: over several, the tool would average their ranges.
        for key in images.files:
            found = tool.calibrate({'serving_default': [{name: images[key]}]})
            for tensor, values in found.items():
                ranges[tensor] = qsv_utils.min_max_update(ranges.get(tensor, {}), values)
    tool.quantize(ranges).export_model(path, overwrite=True)


def shorten_names(path: str) -> None:
    """Leaves the classes of modules out of the names of tensors, a tenth of a small INT8 file."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            name = re.sub(r'(^|(?<=/))[\w.]+\.[A-Z][A-Za-z0-9]*(_|/|$)', '', tensor.name.decode())
            tensor.name = name.encode()
    flatbuffer_utils.write_model(model, path)


if __name__ == '__main__':
    main(*sys.argv[1:])

"""Converts a torch.export program to a LiteRT file. Runs in the environment of litert-torch.

Usage: litert.py PROGRAM.pt2 MODEL.tflite
"""

import sys

import torch


def main() -> None:
    import litert_torch

    # Without operators that work in place, which box coders lead to.
    program = torch.export.load(sys.argv[1]).run_decompositions({})
    (example,), _ = program.example_inputs
    litert_torch.convert(program.module(), (example,)).export(sys.argv[2])


if __name__ == '__main__':
    main()

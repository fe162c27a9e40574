"""Converters with requirements of their own, each in an environment of its own.

litert-torch and ExecuTorch need other versions of packages than the OpenMMLab libraries. So each is
installed into a virtual environment in the cache, and reads a torch.export program from a file.
``python tools/deployment/install_converter.py NAME`` installs one.
"""

from .environments import CONVERTERS, Converter, run_converter, start_converter

__all__ = ['CONVERTERS', 'Converter', 'run_converter', 'start_converter']

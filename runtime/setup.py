"""Packaging of edgenext_mm_runtime: the part of edgenext_mm that runs exported files.

It needs neither PyTorch nor OpenMMLab. Its files are those of edgenext_mm, so that either
distribution can be installed over the other. Build a wheel; an sdist would lack the files.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGE = Path(__file__).resolve().parent.parent / 'edgenext_mm'
VERSION: dict[str, str] = {}
exec((PACKAGE / 'version.py').read_text(), VERSION)


class BuildRuntime(build_py):
    """Leaves out the other modules of edgenext_mm."""

    def find_package_modules(self, package, package_dir):
        found = super().find_package_modules(package, package_dir)
        kept = ('__init__', 'errors', 'files', 'version')
        return [part for part in found if package != 'edgenext_mm' or part[1] in kept]


setup(
    name='edgenext_mm_runtime',
    version=VERSION['__version__'],
    description='Runs exported EdgeNeXt models with NumPy, Pillow and one runtime',
    long_description=(
        'Runs files that `edgenext_mm` exported, for all tasks, without PyTorch:\n'
        '`edgenext_mm.runtime.load("model.onnx")("photo.jpg")`.\n'
    ),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=['edgenext_mm', 'edgenext_mm.runtime', 'edgenext_mm.runtime.sessions'],
    package_dir={'edgenext_mm': '../edgenext_mm'},
    cmdclass={'build_py': BuildRuntime},
    install_requires=['numpy', 'Pillow>=10.1'],
    extras_require={
        'onnxruntime': ['onnxruntime>=1.20'],
        'openvino': ['openvino>=2025.0'],
        'litert': ['ai-edge-litert>=2.1'],
        'ncnn': ['ncnn>=1.0.20260526'],
        'opencv': ['opencv-python-headless'],
    },
)

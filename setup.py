"""Packaging of edgenext_mm. The exact versions tested are in requirements/."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((ROOT / 'edgenext_mm' / 'version.py').read_text(), VERSION)

# One task library is enough. Parts that need another one raise an error that names it.
TASKS = {
    'classification': ['onedl-mmpretrain>=1.3.5,<2'],
    'detection': ['onedl-mmdetection>=3.5,<4'],
    'segmentation': ['onedl-mmsegmentation>=1.4,<2'],
    'rotated': ['onedl-mmrotate>=1.2,<2', 'onedl-mmdetection>=3.5,<4'],
}
DEPLOYMENT = [
    'onnx>=1.16',
    'onnxruntime>=1.20',
    'onnxscript>=0.5',
    'openvino>=2025.0',
]
# One for each format for phones and boards. litert-torch and ExecuTorch, which write .tflite and
# .pte files, need other versions of packages: tools/deployment/install_converter.py.
MOBILE = {
    'coreml': ['coremltools>=9.0'],
    'litert': ['ai-edge-litert>=2.1'],
    'ncnn': ['ncnn>=1.0.20260526', 'pnnx>=20260526'],
}
HUB = ['huggingface-hub>=0.24']  # also a dependency of timm
TOOLS = ['fvcore>=0.1.5.post20221221', 'matplotlib', 'psutil', 'scikit-learn>=1.5', 'timm>=1.0.17']


class BuildWithConfigs(build_py):
    """Adds configs, tools and the model index: links in an editable install, else copies.

    ``_base_ = 'edgenext_mm::...'`` and mim look for them in ``edgenext_mm/.mim``. But onedl-mim
    0.5.1 takes the folder of the first file of a distribution, in alphabetical order, for its
    package. This would be ``edgenext_mm-VERSION.dist-info``, so that a copy is put into
    ``edgenext_mim``, which precedes it (https://github.com/VBTI-development/onedl-mim).
    """

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            _place(ROOT / 'edgenext_mm' / '.mim', link=True)
        else:
            _place(Path(self.build_lib, 'edgenext_mm', '.mim'))
            _place(Path(self.build_lib, 'edgenext_mim'))


def _place(target: Path, link: bool = False) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ('configs', 'tools', 'model-index.yml'):
        if link:
            (target / name).symlink_to(Path('..', '..', name))
        elif (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns('__pycache__')
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, target)


setup(
    name='edgenext_mm',
    version=VERSION['__version__'],
    description='EdgeNeXt for OpenMMLab: classification, detection, segmentation, deployment',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['edgenext_mm', 'edgenext_mm.*']),
    package_data={'edgenext_mm': ['py.typed', 'report/*.html', 'deployment/web/*']},
    cmdclass={'build_py': BuildWithConfigs},
    install_requires=[
        'torch>=2.6',
        'torchvision>=0.21',
        'onedl-mmengine>=0.10.12,<1',
        'onedl-mmcv>=2.3.4,<3',
        'numpy',
        'packaging',
        'Pillow>=10.1',
        'filelock',
        'jinja2',
        'pyyaml',
        'safetensors',
        'tqdm',
    ],
    extras_require={
        **TASKS,
        **MOBILE,
        'deployment': DEPLOYMENT,
        'hub': HUB,
        'tools': TOOLS,
        'all': sorted({req for extra in (TASKS, MOBILE) for reqs in extra.values() for req in reqs})
        + TOOLS
        + HUB
        + DEPLOYMENT,
    },
)

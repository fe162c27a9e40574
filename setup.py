"""Packaging of edgenext_mm. Ranges stand here, the exact versions tested in requirements/."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION: dict[str, str] = {}
exec((ROOT / 'edgenext_mm' / 'version.py').read_text(), VERSION)

# One task library is enough; what belongs to another says so when it is asked for.
TASKS = {
    'classification': ['onedl-mmpretrain>=1.3.5,<2'],
    'detection': ['onedl-mmdetection>=3.5,<4'],
    'segmentation': ['onedl-mmsegmentation>=1.4,<2'],
    'rotated': ['onedl-mmrotate>=1.2,<2', 'onedl-mmdetection>=3.5,<4'],
}
TOOLS = ['fvcore>=0.1.5', 'matplotlib', 'scikit-learn>=1.3', 'timm>=1.0']

setup(
    name='edgenext_mm',
    version=VERSION['__version__'],
    description='EdgeNeXt for OpenMMLab: classification, detection, segmentation, deployment',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['edgenext_mm', 'edgenext_mm.*']),
    package_data={'edgenext_mm': ['py.typed']},
    install_requires=[
        'torch>=2.4',
        'torchvision>=0.19',
        'onedl-mmengine>=0.10.10,<1',
        'onedl-mmcv>=2.3.4,<3',
        'numpy',
        'packaging',
        'Pillow>=10',
        'tqdm',
    ],
    extras_require={
        **TASKS,
        'tools': TOOLS,
        'all': sorted({req for reqs in TASKS.values() for req in reqs}) + TOOLS,
    },
)

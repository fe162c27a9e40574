"""Say what is installed, whether it works together, and how to mend what does not.

Stands alone: it must run where the package cannot be imported. Exits with 1 if anything is wrong.

Example:
    python tools/doctor.py
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MEND_MMCV = 'python tools/setup_env.py --mmcv-only'


class Finding(NamedTuple):
    """One line of the report; ``mend`` is the command that helps where something is wrong."""

    name: str
    state: str
    mend: str = ''


#: Import name: distribution, and what a distribution that must not stand beside it is called.
PACKAGES = {
    'torch': 'torch',
    'torchvision': 'torchvision',
    'mmengine': 'onedl-mmengine',
    'mmcv': 'onedl-mmcv',
    'mmpretrain': 'onedl-mmpretrain',
    'mmdet': 'onedl-mmdetection',
    'mmseg': 'onedl-mmsegmentation',
    'mmrotate': 'onedl-mmrotate',
    'mim': 'onedl-mim',
    'edgenext_mm': 'edgenext_mm',
}
REQUIRED = ('torch', 'torchvision', 'mmengine', 'mmcv', 'edgenext_mm')
TASK_LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg', 'mmrotate')
#: Distributions that provide the same module: one to keep, others to remove.
RIVALS = {
    'mmengine': ('onedl-mmengine', 'mmengine', 'mmengine-lite'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain', 'mmcls'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'mmrotate': ('onedl-mmrotate', 'mmrotate'),
    'mim': ('onedl-mim', 'openmim'),
    'cv2': (
        'opencv-python',
        'opencv-python-headless',
        'opencv-contrib-python',
        'opencv-contrib-python-headless',
    ),
}


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine() -> Iterator[Finding]:
    """Everything there is to say, in order."""
    version = sys.version.split()[0]
    old = sys.version_info < (3, 10)
    yield Finding('python', version, 'make setup PYTHON=python3.11' if old else '')
    yield from examine_packages()
    yield from examine_rivals()
    yield from examine_torch()
    yield examine_ops()


def examine_packages() -> Iterator[Finding]:
    """Whether each package is there, and can be imported."""
    for module, distribution in PACKAGES.items():
        version = version_of(distribution)
        if version is None:
            mend = f'pip install {distribution}' if module in REQUIRED else ''
            if module == 'mmcv':
                mend = MEND_MMCV
            if module == 'edgenext_mm':
                mend = f'pip install --no-deps --no-build-isolation -e {ROOT}'
            yield Finding(module, 'not installed' + ('' if mend else ' (optional)'), mend)
            continue
        # A task library imports much of what it needs only with its data sets.
        deep = f', {module}.datasets' if module in TASK_LIBRARIES else ''
        error = import_error(f'import {module}{deep}')
        if error is None:
            yield Finding(module, f'{version} ({distribution})')
        else:
            pin = f'{distribution}=={version}'
            mend = f'pip install --force-reinstall --no-deps {pin}'
            if module == 'edgenext_mm':
                mend = 'mend the packages above'
            yield Finding(module, f'{version}, does not import: {error}', mend)


def examine_rivals() -> Iterator[Finding]:
    """Distributions that overwrite each other's files."""
    for module, (keep, *others) in RIVALS.items():
        present = [d for d in others if version_of(d)]
        if present and version_of(keep):
            mend = (
                f'pip uninstall -y {" ".join(present)} && '
                f'pip install --force-reinstall --no-deps {keep}=={version_of(keep)}'
            )
            yield Finding(module, f'provided by {keep} and {" and ".join(present)}', mend)
        elif present and module != 'cv2':
            mend = f'pip uninstall -y {" ".join(present)} && pip install {keep}'
            if module == 'mmcv':
                mend = f'pip uninstall -y {" ".join(present)} && {MEND_MMCV}'
            yield Finding(module, f'provided by {present[0]}, which is not maintained', mend)


def examine_torch() -> Iterator[Finding]:
    """Whether torch and torchvision match, and which GPUs there are."""
    if version_of('torch') is None:
        return
    pair = {d: pinned(d) for d in ('torch', 'torchvision')}
    mend = ' '.join(f'{d}=={v}' for d, v in pair.items() if v)
    mend = f'pip install {mend or "--upgrade torch torchvision"}'
    error = import_error('import torchvision; torchvision.ops.nms')
    works = 'work together' if error is None else f'do not match: {error}'
    yield Finding('torch with torchvision', works, '' if error is None else mend)
    code = (
        'import torch; print(", ".join(torch.cuda.get_device_name(i) '
        'for i in range(torch.cuda.device_count())) or "none")'
    )
    yield Finding('GPUs', run(code)[1])


def examine_ops() -> Finding:
    """Whether mmcv's ops load, on the GPU too where there is one."""
    if version_of('onedl-mmcv') is None and version_of('mmcv') is None:
        return Finding('mmcv ops', 'no mmcv', MEND_MMCV)
    error = import_error('from mmcv.ops import nms_rotated')
    if error is not None:
        return Finding('mmcv ops', f'do not load: {error}', MEND_MMCV)
    code = (
        'import torch; from mmcv.ops import nms; d = "cuda" if torch.cuda.is_available() else '
        '"cpu"; nms(torch.rand(4, 4, device=d), torch.rand(4, device=d), 0.5); print(d)'
    )
    status, output = run(code)
    if status:
        mend = f'install the CUDA toolkit (nvcc), then {MEND_MMCV}'
        return Finding('mmcv ops', f'load, but were built without CUDA: {output}', mend)
    return Finding('mmcv ops', f'load and run ({output})')


def pinned(distribution: str) -> str:
    constraints = ROOT / 'requirements' / 'constraints.txt'
    found = re.search(rf'^{distribution}==(\S+)', constraints.read_text(), re.MULTILINE)
    return found[1] if found else ''


def run(code: str) -> tuple[int, str]:
    """Status and last line of what Python code prints, in a process of its own."""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else ''


def import_error(code: str) -> str | None:
    status, output = run(code)
    return output if status else None


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    findings = list(examine())
    for finding in findings:
        print(f'{"WRONG" if finding.mend else "ok":5}  {finding.name:24} {finding.state}')
        if finding.mend:
            print(f'       {"":24} mend: {finding.mend}')
    wrong = sum(bool(finding.mend) for finding in findings)
    if wrong:
        sys.exit(f'{wrong} thing{"s" if wrong > 1 else ""} to mend')


if __name__ == '__main__':
    main()

"""Check an installation, or report on a training.

Lists what is installed, whether it works together, and the command that fixes each problem. Runs
where the package cannot be imported. Exits with status 1 if there is a problem.

With --run, reports on a training instead: whether it has finished, how far it got, what stopped it,
which checkpoints are intact, and how to continue. Exits with status 1 if it has not finished.
Changes nothing.

Examples:
    python tools/doctor.py
    python tools/doctor.py --run work_dirs/birds
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
INSTALL_MMCV = 'python tools/setup_env.py --mmcv-only'


class Finding(NamedTuple):
    """One line of the report. ``fix`` is the command that fixes a problem, empty if all is well."""

    name: str
    state: str
    fix: str = ''


class Outcome(NamedTuple):
    """Whether a snippet works, and its result or its error."""

    works: bool
    text: str


#: For each module, its distribution, and others that provide the same module.
PACKAGES = {
    'torch': ['torch'],
    'torchvision': ['torchvision'],
    'mmengine': ['onedl-mmengine', 'mmengine', 'mmengine-lite'],
    'mmcv': ['onedl-mmcv', 'mmcv', 'mmcv-lite', 'mmcv-full'],
    'mmpretrain': ['onedl-mmpretrain', 'mmpretrain', 'mmcls'],
    'mmdet': ['onedl-mmdetection', 'mmdet'],
    'mmseg': ['onedl-mmsegmentation', 'mmsegmentation'],
    'mmrotate': ['onedl-mmrotate', 'mmrotate'],
    'mim': ['onedl-mim', 'openmim'],
    'edgenext_mm': ['edgenext_mm'],
}
OPENCV = [f'opencv-{kind}' for kind in ('python', 'contrib-python')]
OPENCV += [f'{name}-headless' for name in OPENCV]
REQUIRED = ('torch', 'torchvision', 'mmengine', 'mmcv', 'edgenext_mm')
TASK_LIBRARIES = ('mmpretrain', 'mmdet', 'mmseg', 'mmrotate')
INSTALL = {
    'mmcv': INSTALL_MMCV,
    'edgenext_mm': f'pip install --no-deps --no-build-isolation -e {ROOT}',
}
#: What must work, by name. The variable ``result`` is reported.
SNIPPETS = {
    # A task library imports many of its dependencies only with its data sets and models.
    **{m: f'import {m}' + f', {m}.datasets, {m}.models' * (m in TASK_LIBRARIES) for m in PACKAGES},
    'pair': 'import torchvision; torchvision.ops.nms',
    'gpus': (
        'import torch; n = torch.cuda.device_count(); '
        'result = ", ".join(map(torch.cuda.get_device_name, range(n))) or "none"'
    ),
    'ops': 'from mmcv.ops import nms_rotated',
    'ops on device': (
        'import torch; from mmcv.ops import nms; '
        'result = "cuda" if torch.cuda.is_available() else "cpu"; '
        'nms(torch.rand(4, 4, device=result), torch.rand(4, device=result), 0.5)'
    ),
}
MARK = 'doctor:'
PROBE = f"""
import json, sys
for name, code in json.load(sys.stdin).items():
    scope = {{}}
    try:
        exec(code, scope)
        works, text = True, scope.get('result', '')
    except BaseException as error:
        lines = str(error).strip().splitlines()
        works, text = False, ': '.join([type(error).__name__, *lines[-1:]])
    print({MARK!r} + json.dumps([name, works, text]), flush=True)
"""


def version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_installation() -> Iterator[Finding]:
    """All findings about the installation, in the order of the report."""
    old = sys.version_info < (3, 10)
    yield Finding('python', sys.version.split()[0], 'make setup PYTHON=python3.11' if old else '')
    outcomes = run_snippets()
    for module, (distribution, *_) in PACKAGES.items():
        yield check_package(module, distribution, outcomes[module])
    yield from check_rivals()
    if version_of('torch'):
        works, text = outcomes['pair']
        state = 'work together' if works else f'do not match: {text}'
        pins = '-c requirements/constraints.txt -r requirements/torch.txt'
        yield Finding('torch with torchvision', state, '' if works else f'pip install {pins}')
        yield Finding('GPUs', outcomes['gpus'].text)
    yield check_ops(outcomes)


def run_snippets() -> dict[str, Outcome]:
    """Runs the snippets one after the other in another process, which may crash."""
    done = subprocess.run(
        [sys.executable, '-c', PROBE], input=json.dumps(SNIPPETS), capture_output=True, text=True
    )
    outcomes = {name: Outcome(False, 'Python crashed before this or at it') for name in SNIPPETS}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):  # libraries print while they are imported
            name, *outcome = json.loads(line.removeprefix(MARK))
            outcomes[name] = Outcome(*outcome)
    return outcomes


def check_package(module: str, distribution: str, outcome: Outcome) -> Finding:
    """Whether a package is installed and can be imported."""
    version = version_of(distribution)
    if version is None:
        if module not in REQUIRED:
            return Finding(module, 'not installed (optional)')
        return Finding(module, 'not installed', INSTALL.get(module, f'pip install {distribution}'))
    if outcome.works:
        return Finding(module, f'{version} ({distribution})')
    state = f'{version}, does not import: {outcome.text}'
    fix = f'pip install --force-reinstall --no-deps {distribution}=={version}'
    if misfits := out_of_range(distribution):
        state += f' (needs {", ".join(misfits)}; installed: {", ".join(misfits.values())})'
        fix = f'pip install {shlex.join(misfits)}'
    elif found := re.search(r"No module named '(\w+)", outcome.text):
        fix = f'pip install {found[1]}'
    return Finding(module, state, 'fix the packages above' if module == 'edgenext_mm' else fix)


def out_of_range(distribution: str) -> dict[str, str]:
    """Requirements of a distribution, extras included, that the installed versions do not meet.

    Such as ``transformers<5`` of mmpretrain, which imports it wherever it is installed.

    Returns:
        The installed versions, by requirement.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return {}
    misfits = {}
    for declared in map(Requirement, importlib.metadata.requires(distribution) or ()):
        version = version_of(declared.name)
        if version and not declared.specifier.contains(version, prereleases=True):
            misfits[f'{declared.name}{declared.specifier}'] = version
    return misfits


def check_rivals() -> Iterator[Finding]:
    """Distributions that overwrite each other's files, or that are no longer maintained."""
    for module, (keep, *others) in {**PACKAGES, 'cv2': OPENCV}.items():
        rivals, version = [name for name in others if version_of(name)], version_of(keep)
        if not rivals or (module == 'cv2' and not version):
            continue
        if version:
            state = f'provided by {keep} and {" and ".join(rivals)}'
            install = f'pip install --force-reinstall --no-deps {keep}=={version}'
        else:
            state = f'provided by {rivals[0]}, which is not maintained'
            install = INSTALL.get(module, f'pip install {keep}')
        yield Finding(module, state, f'pip uninstall -y {" ".join(rivals)} && {install}')


def check_ops(outcomes: dict[str, Outcome]) -> Finding:
    """Whether mmcv's ops load, and run on the GPU if there is one."""
    if version_of('onedl-mmcv') is None and version_of('mmcv') is None:
        return Finding('mmcv ops', 'mmcv is not installed', INSTALL_MMCV)
    if not outcomes['ops'].works:
        return Finding('mmcv ops', f'do not load: {outcomes["ops"].text}', INSTALL_MMCV)
    works, text = outcomes['ops on device']
    if not works:
        fix = f'install the CUDA toolkit (nvcc), then {INSTALL_MMCV}'
        return Finding('mmcv ops', f'load, but were built without CUDA: {text}', fix)
    return Finding('mmcv ops', f'load and run ({text})')


def check_run(work_dir: str) -> tuple[bool, list[Finding]]:
    """Whether a training has finished, and the findings about it."""
    try:
        from edgenext_mm.engine import run_report
    except ImportError as error:
        sys.exit(f'error: --run needs edgenext_mm; run `python tools/doctor.py` first: {error}')
    try:
        finished, findings = run_report.examine_run(work_dir)
    except ValueError as error:
        sys.exit(f'error: {error}')
    return finished, [Finding(*finding) for finding in findings]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--run', metavar='WORK_DIR', help='report on the training in this folder')
    args = parser.parse_args()
    if args.run:
        finished, findings = check_run(args.run)
    else:
        findings = list(check_installation())
    for finding in findings:
        print(f'{"WRONG" if finding.fix else "ok":5}  {finding.name:24} {finding.state}')
        if finding.fix:
            print(f'       {"":24} fix: {finding.fix}')
    if args.run:
        sys.exit(0 if finished else 1)
    if problems := sum(bool(finding.fix) for finding in findings):
        sys.exit(f'{problems} problem{"s" if problems > 1 else ""} to fix')


if __name__ == '__main__':
    main()

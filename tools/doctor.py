"""Say what is installed, whether it works together, and how to mend what does not.

Stands alone: it must run where the package cannot be imported. Exits with 1 if anything is wrong.

With --run, say what happened to a training instead: whether it has finished, how far it came, what
stopped it, which checkpoints are whole, and how to go on. Exits with 0 if it has finished, else
with 1. Changes nothing.

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
MEND_MMCV = 'python tools/setup_env.py --mmcv-only'


class Finding(NamedTuple):
    """One line of the report; ``mend`` is the command that helps where something is wrong."""

    name: str
    state: str
    mend: str = ''


#: Import name: distribution.
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


INSTALL = {
    'mmcv': MEND_MMCV,
    'edgenext_mm': f'pip install --no-deps --no-build-isolation -e {ROOT}',
}
#: What must work, by name; ``result`` is reported.
SNIPPETS = {
    # A task library imports much of what it needs only with its data sets and models.
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


class Outcome(NamedTuple):
    """Whether a snippet works, and its result or its error."""

    works: bool
    text: str


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
    outcomes = probe()
    yield from examine_packages(outcomes)
    yield from examine_rivals()
    yield from examine_torch(outcomes)
    yield examine_ops(outcomes)


def probe() -> dict[str, Outcome]:
    """Tries all that needs an import, one after the other in a process of its own."""
    done = subprocess.run(
        [sys.executable, '-c', PROBE],
        input=json.dumps(SNIPPETS),
        capture_output=True,
        text=True,
    )
    outcomes = {name: Outcome(False, 'Python crashed before this or at it') for name in SNIPPETS}
    for line in done.stdout.splitlines():
        if line.startswith(MARK):  # libraries talk while they load
            name, works, text = json.loads(line.removeprefix(MARK))
            outcomes[name] = Outcome(works, text)
    return outcomes


def examine_packages(outcomes: dict[str, Outcome]) -> Iterator[Finding]:
    """Whether each package is there, and can be imported."""
    for module, distribution in PACKAGES.items():
        version, outcome = version_of(distribution), outcomes[module]
        if version is None:
            mend = INSTALL.get(module, f'pip install {distribution}') if module in REQUIRED else ''
            yield Finding(module, 'not installed' + ('' if mend else ' (optional)'), mend)
        elif outcome.works:
            yield Finding(module, f'{version} ({distribution})')
        else:
            mend = f'pip install --force-reinstall --no-deps {distribution}=={version}'
            if misfits := out_of_range(distribution):
                mend = f'pip install {shlex.join(misfits)}'
                versions = [f'{d} {version_of(d)}' for d in map(name_of, misfits)]
                outcome = Outcome(False, f'{outcome.text} (it wants another {", ".join(versions)})')
            elif found := re.search(r"No module named '(\w+)", outcome.text):
                mend = f'pip install {found[1]}'
            if module == 'edgenext_mm':
                mend = 'mend the packages above'
            yield Finding(module, f'{version}, does not import: {outcome.text}', mend)


def out_of_range(distribution: str) -> list[str]:
    """What a distribution declares to need, extras included, and is installed in another version.

    Such as ``transformers<5`` of mmpretrain, which imports it wherever it is installed.
    """
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return []
    declared = [Requirement(text) for text in importlib.metadata.requires(distribution) or ()]
    misfits = [
        f'{requirement.name}{requirement.specifier}'
        for requirement in declared
        if (version := version_of(requirement.name))
        and not requirement.specifier.contains(version, prereleases=True)
    ]
    return list(dict.fromkeys(misfits))


def name_of(requirement: str) -> str:
    return re.split(r'[^\w.-]', requirement)[0]


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


def examine_torch(outcomes: dict[str, Outcome]) -> Iterator[Finding]:
    """Whether torch and torchvision match, and which GPUs there are."""
    if version_of('torch') is None:
        return
    pair = {d: pinned(d) for d in ('torch', 'torchvision')}
    mend = ' '.join(f'{d}=={v}' for d, v in pair.items() if v)
    mend = f'pip install {mend or "--upgrade torch torchvision"}'
    works, text = outcomes['pair']
    state = 'work together' if works else f'do not match: {text}'
    yield Finding('torch with torchvision', state, '' if works else mend)
    yield Finding('GPUs', outcomes['gpus'].text)


def examine_ops(outcomes: dict[str, Outcome]) -> Finding:
    """Whether mmcv's ops load, on the GPU too where there is one."""
    if version_of('onedl-mmcv') is None and version_of('mmcv') is None:
        return Finding('mmcv ops', 'no mmcv', MEND_MMCV)
    if not outcomes['ops'].works:
        return Finding('mmcv ops', f'do not load: {outcomes["ops"].text}', MEND_MMCV)
    works, text = outcomes['ops on device']
    if not works:
        mend = f'install the CUDA toolkit (nvcc), then {MEND_MMCV}'
        return Finding('mmcv ops', f'load, but were built without CUDA: {text}', mend)
    return Finding('mmcv ops', f'load and run ({text})')


def pinned(distribution: str) -> str:
    constraints = ROOT / 'requirements' / 'constraints.txt'
    found = re.search(rf'^{distribution}==(\S+)', constraints.read_text(), re.MULTILINE)
    return found[1] if found else ''


def examine_run(work_dir: str) -> tuple[bool, list[Finding]]:
    """Whether a run has finished, and what there is to say of it."""
    try:
        from edgenext_mm.engine import run_report
    except ImportError as error:
        sys.exit(f'error: this needs the package, see `python tools/doctor.py`: {error}')
    try:
        finished, findings = run_report.examine_run(work_dir)
    except ValueError as error:
        sys.exit(f'error: {error}')
    return finished, [Finding(*finding) for finding in findings]


def show(findings: list[Finding]) -> None:
    for finding in findings:
        print(f'{"WRONG" if finding.mend else "ok":5}  {finding.name:24} {finding.state}')
        if finding.mend:
            print(f'       {"":24} mend: {finding.mend}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--run', metavar='WORK_DIR', help='say what happened to a training')
    args = parser.parse_args()
    if args.run:
        finished, findings = examine_run(args.run)
        show(findings)
        sys.exit(0 if finished else 1)
    findings = list(examine())
    show(findings)
    wrong = sum(bool(finding.mend) for finding in findings)
    if wrong:
        sys.exit(f'{wrong} thing{"s" if wrong > 1 else ""} to mend')


if __name__ == '__main__':
    main()

"""Set up the environment of a clone: .venv with torch, OpenMMLab and the project.

Runs on a bare Python with nothing installed; `make demo` and `make test` call it. With everything
in place it does nothing. mmcv has no binary packages for current torch releases: its ops are built
once per torch version, and the wheel is kept in ~/.cache/edgenext_mm (or $EDGENEXT_MM_CACHE).

Examples:
    python3 tools/setup_env.py               # what `make setup` does
    python tools/setup_env.py --mmcv-only    # mmcv with its ops, into the Python that runs this
    python tools/setup_env.py --lock         # pin what is installed in requirements/constraints.txt
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
CONSTRAINTS = REQUIREMENTS / 'constraints.txt'
VENV = ROOT / '.venv'
VENV_PYTHON = VENV / 'bin' / 'python'
STAMP = VENV / 'setup.sha256'
CACHE = Path(
    os.environ.get('EDGENEXT_MM_CACHE')
    or Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'edgenext_mm'
)
MIN_PYTHON = (3, 10)
PROBE_TORCH = (
    'import torch; from torch.utils.cpp_extension import CUDA_HOME; '
    'print(torch.__version__, torch.cuda.is_available(), bool(CUDA_HOME))'
)
PROBE_OPS = 'from mmcv.ops import nms_rotated'
PROBE_WHEEL = (
    'from importlib.metadata import distribution; '
    'print(distribution("onedl-mmcv").read_text("direct_url.json") or "")'
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--mmcv-only', action='store_true', help='install mmcv into the Python that runs this'
    )
    parser.add_argument('--lock', action='store_true', help='write requirements/constraints.txt')
    args = parser.parse_args()
    if args.lock:
        lock()
    elif args.mmcv_only:
        install_mmcv(sys.executable)
    else:
        set_up()


def set_up() -> None:
    """Makes .venv complete, unless it is."""
    wanted = fingerprint()
    if STAMP.is_file() and STAMP.read_text() == wanted:
        return
    check_python()
    # A stamp of before must not vouch for what is about to change.
    STAMP.unlink(missing_ok=True)
    python = str(VENV_PYTHON)
    if not VENV_PYTHON.exists():
        step('1/5 virtual environment in .venv')
        run([sys.executable, '-m', 'venv', str(VENV)])
    step('2/5 torch (several GB on the first time)')
    pip(python, '-r', REQUIREMENTS / 'torch.txt', '-r', REQUIREMENTS / 'build.txt')
    step('3/5 mmcv with its ops')
    install_mmcv(python)
    step('4/5 OpenMMLab and tools')
    pip(python, '-r', REQUIREMENTS / 'openmmlab.txt', '-r', REQUIREMENTS / 'dev.txt')
    pip(python, '--no-deps', '-r', REQUIREMENTS / 'no_deps.txt')
    step('5/5 edgenext_mm itself, editable')
    pip(python, '--no-deps', '--no-build-isolation', '-e', ROOT)
    STAMP.write_text(wanted)


def fingerprint() -> str:
    """Changes whenever the environment must be looked at again."""
    digest = hashlib.sha256(f'{sys.version} {ROOT}'.encode())
    for path in (*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py', Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def check_python() -> None:
    """Refuses a Python that is too old or comes without venv."""
    if sys.version_info < MIN_PYTHON:
        fail(
            f'Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer is needed, this is '
            f'{sys.version.split()[0]}. Name another one: make setup PYTHON=python3.11'
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(
            'This Python comes without its venv module. On Debian or Ubuntu: '
            f'apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-venv'
        )


def install_mmcv(python: str) -> None:
    """Installs mmcv with its ops into an interpreter's environment, building it if need be."""
    folder, on_gpu = wheel_folder(python)
    if has_mmcv_for(python, folder):
        print('mmcv and its ops are there already')
        return
    wheel = find_wheel(python, folder) or build_wheel(python, folder, on_gpu)
    # --force-reinstall: an mmcv without ops, or of another torch, has the same version.
    pip(python, '--force-reinstall', '--no-deps', wheel)
    pip(python, wheel)
    run([python, '-c', PROBE_OPS])


def has_mmcv_for(python: str, folder: Path) -> bool:
    """Whether mmcv's ops load, and were not built here for another torch."""
    if subprocess.run([python, '-c', PROBE_OPS], capture_output=True).returncode:
        return False
    probe = subprocess.run([python, '-c', PROBE_WHEEL], capture_output=True, text=True)
    source = unquote(probe.stdout)
    return '/wheels/torch-' not in source or f'/{folder.name}/' in source


def wheel_folder(python: str) -> tuple[Path, bool]:
    """Where the wheel for an interpreter's torch is kept, and whether its ops run on GPUs."""
    probe = subprocess.run([python, '-c', PROBE_TORCH], capture_output=True, text=True)
    if probe.returncode:
        fail(f'mmcv is built for an installed torch, and {python} has none: pip install torch')
    version, has_gpu, has_nvcc = probe.stdout.split()
    on_gpu = has_gpu == 'True' and has_nvcc == 'True'
    if has_gpu == 'True' and not on_gpu:
        print(
            'warning: there is a GPU but no CUDA compiler (nvcc), so mmcv gets CPU ops only. '
            'Detectors will need the CUDA toolkit: install it, then call '
            '`python tools/setup_env.py --mmcv-only`.'
        )
    return CACHE / 'wheels' / f'torch-{version}-{"cuda" if on_gpu else "cpu"}', on_gpu


def find_wheel(python: str, folder: Path) -> Path | None:
    """The wheel kept for this torch, this Python and the pinned mmcv."""
    tag = subprocess.run(
        [python, '-c', 'import sys; print("cp%d%d" % sys.version_info[:2])'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    pattern = f'onedl_mmcv-{pinned("onedl-mmcv")}-{tag}-*.whl'
    return next(folder.glob(pattern), None)


def build_wheel(python: str, folder: Path, on_gpu: bool) -> Path:
    """Builds mmcv's wheel with its ops for the installed torch, and keeps it."""
    check_compiler()
    folder.mkdir(parents=True, exist_ok=True)
    print('building mmcv from source; 8 to 15 minutes on 2 cores', flush=True)
    environment = dict(os.environ, MMCV_WITH_OPS='1')
    if not on_gpu:
        environment['CUDA_VISIBLE_DEVICES'] = ''
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # No cache: pip's knows the source, not the torch that a wheel was built for.
        command = [python, '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-build-isolation']
        command += ['--no-deps', '-w', temporary, f'onedl-mmcv=={pinned("onedl-mmcv")}']
        run_with_progress(command, environment, log=folder / 'build.log')
        built = next(Path(temporary).glob('*.whl'))
        return built.replace(folder / built.name)


def check_compiler() -> None:
    """Refuses to start a build that must fail."""
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        fail(
            f"Building mmcv's ops needs a C++ compiler, and there is no {compiler!r}. "
            'On Debian or Ubuntu: apt-get install g++'
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        fail(
            "Building mmcv's ops needs Python's headers. On Debian or Ubuntu: "
            f'apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-dev'
        )


def run_with_progress(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Runs a ninja build, showing its count of files; the rest goes to a log."""
    with log.open('w') as file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            if found := re.match(r'\s*\[(\d+)/(\d+)\]', line):
                done, total = map(int, found.groups())
                bar = '#' * (40 * done // total)
                print(f'\r  [{bar:<40}] {done}/{total} files', end='', flush=True)
        print()
        if process.wait():
            fail(f'Building mmcv failed. The end of its output is in {log}')


def pinned(distribution: str) -> str:
    """The version of a distribution in requirements/constraints.txt."""
    found = re.search(rf'^{distribution}==(\S+)', CONSTRAINTS.read_text(), re.MULTILINE)
    assert found, f'{distribution} is not pinned'
    return found[1]


def lock() -> None:
    """Pins everything installed beside this Python, except what torch itself pins."""
    lines = []
    for dist in sorted(importlib.metadata.distributions(), key=lambda d: d.name.lower()):
        if re.match(r'(nvidia|cuda|triton|edgenext|pip$)', dist.name.lower()):
            continue
        version = dist.version.split('+')[0]
        newer = '>=3.11' in (dist.metadata.get('Requires-Python') or '')
        marker = ' ; python_version >= "3.11"' if newer else ''
        lines.append(f'{dist.name.lower().replace("_", "-")}=={version}{marker}')
    header = '# The exact versions tested. Written by: .venv/bin/python tools/setup_env.py --lock\n'
    CONSTRAINTS.write_text(header + '\n'.join(lines) + '\n')


def pip(python: str, *args: str | Path) -> None:
    """Calls pip install with the pinned versions."""
    command = [python, '-m', 'pip', 'install', '--disable-pip-version-check']
    command += ['--progress-bar', 'on', '-c', str(CONSTRAINTS)]
    run([*command, *map(str, args)])


def run(command: list[str]) -> None:
    """Runs a command, and stops with its name if it fails."""
    if code := subprocess.run(command).returncode:
        fail(f'This command failed with status {code}: {" ".join(command)}')


def step(title: str) -> None:
    """Prints where the set-up is."""
    print(f'== {title}', flush=True)


def fail(message: str) -> None:
    """Stops with one paragraph."""
    sys.exit(f'error: {message}')


if __name__ == '__main__':
    main()

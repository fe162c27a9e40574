"""Set up a clone: .venv with torch, OpenMMLab and the project.

Needs only Python itself; `make demo` and `make test` call it. It does nothing if .venv is up to
date. There are no binary packages of mmcv for current torch releases, so its ops are built from
source, once per torch version. The wheel is kept in ~/.cache/edgenext_mm (or $EDGENEXT_MM_CACHE).

Examples:
    python3 tools/setup_env.py               # what `make setup` does
    python3 tools/setup_env.py --lowest      # .venv-lowest, with the lowest versions of setup.py
    python tools/setup_env.py --mmcv-only    # mmcv with its ops, for the Python that runs this
    python tools/setup_env.py --lock         # write the installed versions to constraints.txt
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
CACHE = Path(
    os.environ.get('EDGENEXT_MM_CACHE')
    or Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'edgenext_mm'
)
MIN_PYTHON = (3, 10)
PROBE_TORCH = (
    'import sys, torch; from torch.utils.cpp_extension import CUDA_HOME; '
    'print("cp%d%d" % sys.version_info[:2], torch.__version__, torch.cuda.is_available(), '
    'bool(CUDA_HOME))'
)
#: Fails if the ops do not load; prints the wheel that mmcv was installed from.
PROBE_MMCV = (
    'from importlib.metadata import distribution; from mmcv.ops import nms_rotated; '
    'print(distribution("onedl-mmcv").read_text("direct_url.json") or "")'
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        '--lowest', action='store_true', help='set up .venv-lowest with the lowest versions'
    )
    chosen.add_argument(
        '--mmcv-only', action='store_true', help='install mmcv for the Python that runs this'
    )
    chosen.add_argument('--lock', action='store_true', help='write requirements/constraints.txt')
    args = parser.parse_args()
    if args.lock:
        lock()
    elif args.mmcv_only:
        install_mmcv(sys.executable, CONSTRAINTS)
    elif args.lowest:
        set_up(ROOT / '.venv-lowest', lowest_constraints())
    else:
        set_up(ROOT / '.venv', CONSTRAINTS.read_text())


def set_up(venv: Path, constraints: str) -> None:
    """Sets up a virtual environment with given versions, unless it is up to date."""
    stamp, pins, python = venv / 'setup.sha256', venv / 'constraints.txt', str(venv / 'bin/python')
    current = fingerprint()
    if stamp.is_file() and stamp.read_text() == current:
        return
    check_python()
    stamp.unlink(missing_ok=True)  # if the set-up fails, the next call must not trust it
    if not Path(python).exists():
        step(f'1/5 virtual environment in {venv.name}')
        run([sys.executable, '-m', 'venv', str(venv)])
    pins.write_text(constraints)
    step('2/5 torch (several GB on the first time)')
    pip(python, pins, '-r', REQUIREMENTS / 'torch.txt', '-r', REQUIREMENTS / 'build.txt')
    step('3/5 mmcv with its ops')
    install_mmcv(python, pins)
    step('4/5 OpenMMLab and tools')
    pip(python, pins, '-r', REQUIREMENTS / 'openmmlab.txt', '-r', REQUIREMENTS / 'dev.txt')
    pip(python, pins, '--no-deps', '-r', REQUIREMENTS / 'no_deps.txt')
    step('5/5 edgenext_mm itself, editable')
    pip(python, pins, '--no-deps', '--no-build-isolation', '-e', ROOT)
    stamp.write_text(current)


def fingerprint() -> str:
    """Hash of everything that an environment depends on."""
    digest = hashlib.sha256(f'{sys.version} {ROOT}'.encode())
    for path in (*sorted(REQUIREMENTS.glob('*.txt')), ROOT / 'setup.py', Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def lowest_constraints() -> str:
    """The tested versions, replaced by the lower bounds of setup.py where it has any."""
    text = re.sub(r'^sympy==.*\n', '', CONSTRAINTS.read_text(), flags=re.MULTILINE)  # torch's own
    for name, version in re.findall(r"'([\w-]+)>=([\w.]+)", (ROOT / 'setup.py').read_text()):
        text = re.sub(rf'^{name.lower()}==.*', f'{name}=={version}', text, flags=re.MULTILINE)
    return text


def check_python() -> None:
    """Stops if this Python is too old or has no venv module."""
    if sys.version_info < MIN_PYTHON:
        fail(
            f'Python {MIN_PYTHON[0]}.{MIN_PYTHON[1]} or newer is needed, but this is '
            f'{sys.version.split()[0]}. Choose another one: make setup PYTHON=python3.11'
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        fail(f'This Python has no venv module. On Debian or Ubuntu: {apt_get("venv")}')


def install_mmcv(python: str, pins: Path) -> None:
    """Installs mmcv with its ops, and builds them if no wheel is kept for the installed torch."""
    probe = subprocess.run([python, '-c', PROBE_TORCH], capture_output=True, text=True)
    if probe.returncode:
        fail(f'mmcv needs torch to build, but {python} cannot import it. Run: pip install torch')
    tag, torch_version, has_gpu, has_nvcc = probe.stdout.split()
    on_gpu = has_gpu == has_nvcc == 'True'
    if has_gpu == 'True' and not on_gpu:
        print(
            'warning: there is a GPU but no CUDA compiler (nvcc), so mmcv gets CPU ops only. '
            'Detectors need them on the GPU: install the CUDA toolkit, then run '
            '`python tools/setup_env.py --mmcv-only`.'
        )
    folder = CACHE / 'wheels' / f'torch-{torch_version}-{"cuda" if on_gpu else "cpu"}'
    if has_mmcv_for(python, folder):
        print('mmcv and its ops are already installed')
        return
    version = re.search(r'^onedl-mmcv==(\S+)', pins.read_text(), re.MULTILINE)[1]
    wheel = next(folder.glob(f'onedl_mmcv-{version}-{tag}-*.whl'), None)
    wheel = wheel or build_wheel(python, version, folder, on_gpu)
    # An mmcv without ops, or for another torch, has the same version; pip would keep it.
    pip(python, pins, '--force-reinstall', '--no-deps', wheel)
    pip(python, pins, wheel)
    run([python, '-c', PROBE_MMCV])


def has_mmcv_for(python: str, folder: Path) -> bool:
    """Whether mmcv's ops load, and were not built by this script for another torch."""
    probe = subprocess.run([python, '-c', PROBE_MMCV], capture_output=True, text=True)
    source = unquote(probe.stdout)
    return not probe.returncode and ('/wheels/torch-' not in source or f'/{folder.name}/' in source)


def build_wheel(python: str, version: str, folder: Path, on_gpu: bool) -> Path:
    """Builds mmcv's wheel with its ops for the installed torch, and keeps it in a folder."""
    compiler = os.environ.get('CXX', 'c++')
    if shutil.which(compiler) is None:
        fail(
            f"Building mmcv's ops needs a C++ compiler, but {compiler!r} is not installed. "
            'On Debian or Ubuntu: apt-get install g++'
        )
    if not Path(sysconfig.get_path('include'), 'Python.h').is_file():
        fail(
            "Building mmcv's ops needs Python's headers, which are not installed. "
            f'On Debian or Ubuntu: {apt_get("dev")}'
        )
    folder.mkdir(parents=True, exist_ok=True)
    print('building mmcv from source; 8 to 15 minutes on 2 cores', flush=True)
    environment = dict(os.environ, MMCV_WITH_OPS='1')
    if not on_gpu:
        environment['CUDA_VISIBLE_DEVICES'] = ''
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        # pip's own cache would return a wheel that was built for another torch.
        command = [python, '-m', 'pip', 'wheel', '-v', '--no-cache-dir', '--no-build-isolation']
        command += ['--no-deps', '-w', temporary, f'onedl-mmcv=={version}']
        run_with_progress(command, environment, log=folder / 'build.log')
        built = next(Path(temporary).glob('*.whl'))
        return built.replace(folder / built.name)


def run_with_progress(command: list[str], environment: dict[str, str], log: Path) -> None:
    """Runs a ninja build, shows how many files are done, and writes its output to a log."""
    with log.open('w') as file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout:
            file.write(line)
            if found := re.match(r'\s*\[(\d+)/(\d+)\]', line):
                print(f'\r  {found[1]} of {found[2]} files', end='', flush=True)
    print()
    if process.wait():
        fail(f'Building mmcv failed. See the end of {log}')


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


def pip(python: str, pins: Path, *args: str | Path) -> None:
    """Calls pip install with a constraints file."""
    command = [python, '-m', 'pip', 'install', '--disable-pip-version-check', '-c', pins, *args]
    run(list(map(str, command)))


def run(command: list[str]) -> None:
    """Runs a command, and stops if it fails."""
    if code := subprocess.run(command).returncode:
        fail(f'This command failed with status {code}: {" ".join(command)}')


def apt_get(package: str) -> str:
    return f'apt-get install python{sys.version_info[0]}.{sys.version_info[1]}-{package}'


def step(title: str) -> None:
    print(f'== {title}', flush=True)


def fail(message: str) -> None:
    sys.exit(f'error: {message}')


if __name__ == '__main__':
    main()

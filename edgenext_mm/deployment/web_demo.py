"""A static page that runs an exported file in the browser, with ONNX Runtime Web."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..runtime.formats import format_of_file
from .file_formats import open_session

PAGE = Path(__file__).with_name('web')
#: The package of npm, and the files of it that the page needs.
RUNTIME = 'onnxruntime-web@1.30.0'
RUNTIME_FILES = (
    'ort.wasm.min.mjs',
    'ort-wasm-simd-threaded.mjs',
    'ort-wasm-simd-threaded.wasm',
    'ort.webgpu.min.mjs',
    'ort-wasm-simd-threaded.asyncify.mjs',
    'ort-wasm-simd-threaded.asyncify.wasm',
)
#: Headers that give a page threads: it is isolated from pages of other origins.
HEADERS = {
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Embedder-Policy': 'require-corp',
}


def write_site(
    path: str | Path,
    folder: str | Path,
    title: str | None = None,
    runtime: str | Path | None = None,
    report: Callable[[str], Any] = print,
) -> Path:
    """Writes a static page for an ONNX file; it needs no other server and no network.

    Args:
        path: ONNX file from the exporter, of FP32 or INT8. Those of detectors include ``decode``
            and not ``nms``, for which ONNX Runtime Web cannot set the size of the image.
        folder: Folder of the page. Files in it that belong to the page are replaced.
        title: Title of the page. Default: from the name of the file and its task.
        runtime: Folder with the files of ``onnxruntime-web``, its ``dist``. Default: the package
            is downloaded by npm.
        report: Receives messages. Default: they are printed.

    Returns:
        The folder.

    Raises:
        UserError: If the file cannot run in the page, or ONNX Runtime Web cannot be found.
    """
    path, folder = Path(path), Path(folder)
    if format_of_file(path) != 'onnx':
        raise UserError(f'The page runs ONNX files, not {path.name}. Export with --format onnx.')
    metadata = open_session(path).metadata
    if not metadata.results or {'nms', 'is_final'} & {*metadata.include, *metadata.results}:
        raise UserError(
            f'{path} includes {", ".join(metadata.include) or "the network alone"}. For the page, '
            'export a single-stage detector such as GFL with --include decode: the page selects '
            'the boxes.'
        )
    folder.mkdir(parents=True, exist_ok=True)
    description = {key: value for key, value in asdict(metadata).items() if key != 'config'}
    description['title'] = title or f'{path.stem}: {metadata.task.replace("_", " ")}'
    if not all((folder / 'ort' / name).is_file() for name in RUNTIME_FILES):
        _copy_runtime(folder / 'ort', runtime, report)
    for file in PAGE.iterdir():
        shutil.copyfile(file, folder / file.name)
    shutil.copyfile(path, folder / 'model.onnx')
    (folder / 'model.json').write_text(json.dumps(description))
    return folder


def _copy_runtime(target: Path, given: str | Path | None, report: Callable[[str], Any]) -> None:
    """Copies the files of ONNX Runtime Web, which npm downloads."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(given) if given else _download(Path(temporary), report)
        if missing := [name for name in RUNTIME_FILES if not (source / name).is_file()]:
            raise UserError(
                f'{source} lacks {missing[0]}. Give the folder `dist` of {RUNTIME}, which '
                f'`npm pack {RUNTIME}` downloads.'
            )
        target.mkdir(parents=True, exist_ok=True)
        for name in RUNTIME_FILES:
            shutil.copyfile(source / name, target / name)


def _download(folder: Path, report: Callable[[str], Any]) -> Path:
    if shutil.which('npm') is None:
        raise UserError(
            f'The page needs {RUNTIME}, and npm is not installed to download it. Install Node.js, '
            'or unpack the package elsewhere and give its folder `dist` with --ort.'
        )
    report(f'downloading {RUNTIME} (about 30 MB)')
    command = ['npm', 'pack', RUNTIME, '--silent', '--pack-destination', str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    archive = next(folder.glob('*.tgz'), None)
    if done.returncode or archive is None:
        lines = (done.stderr + done.stdout).strip().splitlines() or ['no message']
        raise UserError(f'npm could not download {RUNTIME}: {lines[-1]}')
    with tarfile.open(archive) as package:
        for name in RUNTIME_FILES:
            member = package.getmember(f'package/dist/{name}')
            member.name = name
            package.extract(member, folder, filter='data')
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a page with the headers that give it threads."""

    extensions_map = {
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        '.mjs': 'text/javascript',
        '.wasm': 'application/wasm',
    }

    def end_headers(self) -> None:
        """Adds the headers."""
        for name, value in HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Prints nothing."""

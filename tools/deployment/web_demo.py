"""Write a static page that runs an exported ONNX file in the browser, on the CPU or a GPU.

The page works for all tasks, offline: images are dropped on it, chosen, pasted or come from the
camera, and never leave the device. Put the folder on any web server; docs/deployment.md gives the
headers with which it uses several threads.

Examples:
    python tools/deployment/export.py CONFIG best.pth --format onnx --out cells.onnx
    python tools/deployment/web_demo.py cells.onnx --out site --serve
    python tools/deployment/web_demo.py cells.onnx --out site --title "Blood cells"
"""

import functools
import http.server

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.deployment.web_demo import Handler, write_site


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('file', help='ONNX file from tools/deployment/export.py')
    parser.add_argument('--out', required=True, metavar='DIR', help='folder of the page')
    parser.add_argument('--title', help='title of the page (default: name of the file and task)')
    parser.add_argument(
        '--ort', metavar='DIR', help='files of onnxruntime-web (default: npm downloads them)'
    )
    parser.add_argument(
        '--serve', nargs='?', type=int, const=8000, metavar='PORT', help='serve the page here'
    )
    args = parser.parse_args()
    folder = write_site(args.file, args.out, args.title, args.ort)
    size = sum(file.stat().st_size for file in folder.rglob('*') if file.is_file())
    print(f'{folder}: {size / 1e6:.0f} MB')
    if args.serve is not None:
        handler = functools.partial(Handler, directory=str(folder))
        with http.server.ThreadingHTTPServer(('127.0.0.1', args.serve), handler) as server:
            print(f'http://localhost:{server.server_port} (Ctrl-C ends)', flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


if __name__ == '__main__':
    main()

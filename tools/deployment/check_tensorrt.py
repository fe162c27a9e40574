"""Say which TensorRT can parse an ONNX file, by the lists of operators that it has published.

Reads attributes and constants, too: what the lists exclude, such as zero points other than 0, is an
error that says what to change. Nothing is run: build the engine with trtexec to be sure.

Examples:
    python tools/deployment/check_tensorrt.py model.onnx
    python tools/deployment/check_tensorrt.py *.onnx
"""

import sys

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.deployment.file_formats import require
from edgenext_mm.deployment.tensorrt import required_release
from edgenext_mm.errors import UserError


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('files', nargs='+', metavar='FILE')
    args = parser.parse_args()
    require('onnx', 'reading ONNX files')
    refused = []
    for path in args.files:
        try:
            (major, minor), reasons = required_release(path)
        except UserError as error:
            refused.append(f'error: {error}')
        else:
            print(f'{path}: TensorRT {major}.{minor} or later, for {", ".join(reasons)}')
    if refused:
        sys.exit('\n'.join(refused))


if __name__ == '__main__':
    main()

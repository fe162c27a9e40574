"""Install a converter for a file format into an environment of its own.

litert-torch and ExecuTorch need other versions of packages than the OpenMMLab libraries, so they
cannot be installed beside them. The environments are in ~/.cache/edgenext_mm/converters (or
$EDGENEXT_MM_CONVERTERS); delete a folder there to remove one.

Examples:
    python tools/deployment/install_converter.py litert
    python tools/deployment/install_converter.py executorch
"""

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.deployment.converters.environments import CONVERTERS, install_converter


@reports_errors
def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument('name', choices=CONVERTERS, help='the converter')
    install_converter(parser.parse_args().name)


if __name__ == '__main__':
    main()

"""Write the metafiles beside the configs, which the model zoo and mim read, and the zoo's table.

Example:
    python tools/analysis/metafiles.py
"""

from pathlib import Path

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.metafile import metafile, zoo_table
from edgenext_mm.files import replacing
from edgenext_mm.zoo import TASKS


@reports_errors
def main() -> None:
    make_parser(__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    for task in TASKS:
        folder = root / 'configs' / task
        with replacing(folder / 'metafile.yml') as temporary:
            temporary.write_text(metafile(folder))
        print(folder / 'metafile.yml')
    update_table(root / 'docs' / 'model_zoo.md', 'zoo', zoo_table(root))


if __name__ == '__main__':
    main()

"""Write the metafiles beside the configs, which the model zoo and mim read, and tables of them.

Example:
    python tools/analysis/metafiles.py
"""

from pathlib import Path

from tqdm import tqdm

from edgenext_mm.apis.cli import make_parser, reports_errors
from edgenext_mm.evaluation.documents import update_table
from edgenext_mm.evaluation.metafile import metafile
from edgenext_mm.evaluation.zoo_tables import complexity_table, zoo_table
from edgenext_mm.files import replacing
from edgenext_mm.zoo import TASKS


@reports_errors
def main() -> None:
    make_parser(__doc__).parse_args()
    root = Path(__file__).resolve().parents[2]
    folders = [root / 'configs' / task for task in TASKS]
    for folder in tqdm(folders, desc='metafiles'):
        with replacing(folder / 'metafile.yml') as temporary:
            temporary.write_text(metafile(folder))
    for folder in folders[1:]:
        update_table(folder / 'README.md', 'complexity', complexity_table(folder))
    update_table(root / 'docs' / 'model_zoo.md', 'zoo', zoo_table(folders))


if __name__ == '__main__':
    main()

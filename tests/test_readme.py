"""The README's examples, links in all documents, and the help of all programs."""

import re
import runpy
import subprocess
import sys

import pytest
from paths import ROOT

from edgenext_mm.checkpoints.zoo import find_weights

DOCUMENTS = [
    str(path.relative_to(ROOT))
    for pattern in ('*.md', 'docs/**/*.md', 'configs/*/*.md')
    for path in sorted(ROOT.glob(pattern))
]
TOOLS = sorted(path.relative_to(ROOT / 'tools') for path in (ROOT / 'tools').rglob('*.py'))
BENCHMARKS = sorted(
    path.stem
    for path in (ROOT / 'benchmarks').glob('*.py')
    if "__name__ == '__main__'" in path.read_text()
)


def python_block(document, *words):
    """The only Python code block of a document that contains all the words."""
    blocks = re.findall(r'```python\n(.*?)```', (ROOT / document).read_text(), re.DOTALL)
    (block,) = [block for block in blocks if all(word in block for word in words)]
    return block


def test_the_ten_line_config_trains(few_digits, mirror, tmp_path):
    find_weights('edgenext-xxsmall_3rdparty_in1k')  # puts the mirror's file into the cache
    config = python_block('README.md', 'birds', '_base_')
    assert len(config.strip().splitlines()) <= 10
    config = config.replace("'configs/", f"'{ROOT}/configs/")
    for split in ('train', 'val'):  # twenty classes
        (tmp_path / 'birds' / split).mkdir(parents=True)
        for i in range(20):
            images = few_digits / split / str(i % 10)
            (tmp_path / 'birds' / split / f'{i:02d}').symlink_to(images)
    config = config.replace("'data/birds'", repr(str(tmp_path / 'birds')))
    (tmp_path / 'birds.py').write_text(config)
    done = subprocess.run(
        [sys.executable, ROOT / 'tools' / 'train.py', 'birds.py', '--cfg-options',
         'train_cfg.max_epochs=1', 'train_dataloader.batch_size=20'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / 'work_dirs' / 'birds' / 'epoch_1.pth').is_file()
    # All weights are loaded but those of the head, which has another size.
    assert 'head.fc.weight (1000x168 in the file, 20x168 here)' in done.stdout
    assert 'size mismatch' not in done.stdout + done.stderr


def test_the_detector_snippet_builds():
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict

    scope = {}
    exec(python_block('docs/finetuning.md', 'custom_imports'), scope)
    backbone = ConfigDict(scope['model']['backbone'])
    backbone.pop('_delete_')
    backbone.pop('init_cfg')
    built = MODELS.build(backbone)
    assert list(built.arch.dims) == scope['model']['neck']['in_channels']


@pytest.mark.parametrize('document', DOCUMENTS)
def test_links_within_the_repository_lead_somewhere(document):
    path = ROOT / document
    links = re.findall(r'\]\((?!https?:)([^)#]+)', path.read_text())
    assert all((path.parent / link).exists() for link in links), links


@pytest.mark.parametrize('tool', TOOLS, ids=str)
def test_every_tool_has_help_with_an_example(tool, call_tool):
    assert 'Example' in call_tool(tool, '--help').stdout


@pytest.mark.parametrize('name', BENCHMARKS)
def test_every_benchmark_has_help_with_an_example(name, call_program):
    done = call_program(runpy.run_module, f'benchmarks.{name}', '--help')
    assert f'    python -m benchmarks.{name}' in done.stdout

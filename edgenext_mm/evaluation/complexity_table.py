"""The tables of detectors and segmentors in the documents."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from ..apis.cli import load_config
from ..apis.model import build_model
from .complexity import count_complexity
from .published import DENSE


def complexity_table(folder: str | Path) -> str:
    """A Markdown table of a folder's configs: cost, and what is published of the same model.

    Args:
        folder: Of configs; those of the digits are left out.
    """
    rows = ['| config | parameters | MAdds | input | published |', '|---|---|---|---|---|']
    for path in sorted(Path(folder).glob('*.py')):
        if path.stem.endswith('_digits'):
            continue
        config = load_config(path)
        height, width = input_shape(config)
        complexity = count_complexity(build_model(config), (height, width), openmmlab=True)
        rows.append(
            f'| [{path.stem}]({path.name}) | {complexity.params / 1e6:.2f}M '
            f'| {complexity.madds / 1e9:.2f}G | {height}x{width} | {DENSE.get(path.stem, "")} |'
        )
    return '\n'.join(rows)


def input_shape(config: Config) -> tuple[int, int]:
    """(H, W) of an image of the largest size that a config's evaluation brings images to."""
    size = config.model.data_preprocessor.get('size')
    if size is not None:
        return size
    pipeline = config.test_dataloader.dataset.pipeline
    width, height = next(t for t in pipeline if t.type.split('.')[-1] == 'Resize').scale
    divisor = config.model.data_preprocessor.get('pad_size_divisor', 1)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor

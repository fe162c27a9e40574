"""Time the training pipelines of the ImageNet configs beside timm's, on one core.

Both read 500x375 JPEG parts of two images in scikit-learn, in turn. timm's pipeline is that of
create_transform with the same augmentation, without normalisation, which a GPU does.

Examples:
    python -m benchmarks.pipeline_speed
    python -m benchmarks.pipeline_speed --rounds 5
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import torch
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from timm.data import create_transform

from edgenext_mm.cli import make_parser, reports_errors
from edgenext_mm.config import load_config

from .documents import markdown_table
from .folder_speed import ROOT, write_photographs
from .latency import interleave, paired_ratio
from .machine import describe_machine

#: Configs, and the arguments of timm for the same augmentation.
RECIPES: dict[str, dict[str, Any]] = {
    'edgenext-xxsmall_8xb256_in1k': dict(color_jitter=0.4),
    'edgenext-small_8xb256_in1k': dict(auto_augment='rand-m9-mstd0.5-inc1', color_jitter=None),
}
NUM_IMAGES = 40


def ours(name: str, paths: Sequence[Path]) -> Callable[[], None]:
    """Returns a call that reads and augments all images as a config does."""
    config = load_config(ROOT / f'configs/classification/{name}.py')
    init_default_scope('mmpretrain')
    pipeline = Compose(config.train_dataloader.dataset.pipeline)

    def run() -> None:
        for path in paths:
            pipeline(dict(img_path=str(path), gt_label=0))

    return run


def timms(arguments: dict[str, Any], paths: Sequence[Path]) -> Callable[[], None]:
    """Returns a call that reads and augments all images as timm does."""
    transform = create_transform(
        256, is_training=True, interpolation='bicubic', re_prob=0, use_prefetcher=True, **arguments
    )

    def run() -> None:
        for path in paths:
            with suppress(ValueError):  # Pillow refuses 0 bits, which timm's Posterize can draw
                transform(Image.open(path).convert('RGB'))

    return run


@reports_errors
def main() -> None:
    """Prints the table."""
    parser = make_parser(__doc__)
    parser.add_argument('--rounds', type=int, default=30, help='number of timed rounds')
    args = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), NUM_IMAGES)
        paths = sorted(Path(folder).iterdir())
        for name, arguments in RECIPES.items():
            calls = dict(ours=ours(name, paths), timm=timms(arguments, paths))
            times = interleave(calls, args.rounds, warmup=2)
            rates = [f'{NUM_IMAGES / times[key].median:.0f}' for key in calls]
            rows.append([name, *rates, f'{paired_ratio(times["timm"], times["ours"]):.2f}'])
    print(markdown_table(['config', 'ours, images/s', 'timm, images/s', 'ours / timm'], rows))
    print(f'\none core; {describe_machine()}')


if __name__ == '__main__':
    main()

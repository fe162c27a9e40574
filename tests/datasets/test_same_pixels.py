"""Training, testing, inference and exported files read an image alike: as its decoder gives it.

The pixels that reach the model's preprocessor on each way are compared with those that OpenCV,
Pillow or tifffile decode.
"""

import functools
import io

import cv2
import numpy as np
import pytest
import tifffile
import torch
from broken_images import picture
from mmengine.registry import DATASETS, init_default_scope
from paths import DIGITS_CONFIG
from PIL import Image, ImageOps

from edgenext_mm import inference_model
from edgenext_mm.apis.model import load_model
from edgenext_mm.apis.testing import run_test
from edgenext_mm.config import load_config
from edgenext_mm.deployment import export
from edgenext_mm.deployment.calibration import normalised_images
from edgenext_mm.models.building import build_model

HEIGHT, WIDTH = 32, 64
RGB = picture(HEIGHT, WIDTH, seed=1)
IMAGE = Image.fromarray(RGB)
GREY = np.asarray(IMAGE.convert('L'))
DEEP = GREY.astype(np.uint16) * 16 + 5  # 12 bits
ALPHA = np.dstack([RGB, GREY // 2])


def saved(image, form, turned=False, **options):
    """The bytes of a file; ``turned`` ones are to be shown a quarter turn to the right."""
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
        options['exif'] = exif
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(
        buffer, form, **options
    )
    return buffer.getvalue()


def tiff(array):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array)
    return buffer.getvalue()


FILES = {
    'rgb.png': saved(RGB, 'PNG'),
    'rgb.jpg': saved(RGB, 'JPEG', quality=90),
    'rgb.webp': saved(RGB, 'WEBP', quality=90),
    'rgb.tif': saved(RGB, 'TIFF'),
    'grey.png': saved(GREY, 'PNG'),
    'palette.png': saved(IMAGE.quantize(32), 'PNG'),
    'alpha.png': saved(ALPHA, 'PNG'),
    'grey-alpha.png': saved(Image.fromarray(ALPHA).convert('LA'), 'PNG'),
    'cmyk.jpg': saved(IMAGE.convert('CMYK'), 'JPEG', quality=90),
    'deep.png': saved(DEEP, 'PNG'),
    'deep-rgb.png': cv2.imencode('.png', RGB[..., ::-1].astype(np.uint16) * 200)[1].tobytes(),
    'turned.jpg': saved(RGB, 'JPEG', turned=True, quality=90),
    'turned.png': saved(RGB, 'PNG', turned=True),
    'turned.webp': saved(RGB, 'WEBP', turned=True, lossless=True),
    'turned.tif': saved(RGB, 'TIFF', turned=True),
}
EIGHT_BITS = [name for name in FILES if 'deep' not in name]


def by_cv2(flag):
    return lambda content: cv2.imdecode(np.frombuffer(content, np.uint8), flag)


def by_pillow(content):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == 'LA':  # mmcv puts it on a colour of its own
        ground = Image.new('RGB', image.size, (124, 117, 104))
        ground.paste(image.convert('RGBA'), mask=image.getchannel('A'))
        image = ground
    return np.asarray(image.convert('RGB'))[..., ::-1]


#: By settings of the loading step: channels of the model, files, and what decodes them.
CASES = {
    'colour': (dict(), 3, FILES, by_cv2(cv2.IMREAD_COLOR)),
    'pillow': (
        dict(imdecode_backend='pillow'), 3, {n: FILES[n] for n in EIGHT_BITS}, by_pillow
    ),
    'grey': (
        dict(color_type='grayscale_ignore_orientation'), 1, FILES,
        by_cv2(cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION),
    ),
    'unchanged': (
        dict(color_type='unchanged', to_float32=True),
        3,
        {n: FILES[n] for n in ('rgb.png', 'deep-rgb.png', 'turned.jpg', 'turned.webp')},
        by_cv2(cv2.IMREAD_UNCHANGED),
    ),
    'six bands': (
        dict(imdecode_backend='tifffile', color_type='unchanged', to_float32=True),
        6,
        {'bands.tif': tiff(np.dstack([DEEP + i for i in range(6)]))},
        lambda content: tifffile.imread(io.BytesIO(content)),
    ),
}  # fmt: skip


def config_for(load, channels, root):
    """A classifier of one class whose pipelines do nothing but read."""
    config = load_config(DIGITS_CONFIG)
    config.model.backbone.in_channels = channels
    config.model.backbone.arch = dict(base='xxsmall', depths=(1, 1, 1, 1))
    config.model.head.num_classes = 2
    config.data_preprocessor = dict(to_rgb=False, mean=[127.5] * channels, std=[64.0] * channels)
    for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
        loader.update(batch_size=1, num_workers=0, persistent_workers=False)
        loader.dataset.pipeline = [dict(type='LoadImageFromFile', **load), dict(type='PackInputs')]
        loader.dataset.update(data_root=str(root), data_prefix='', classes_from=None)
        loader.dataset.extensions = ('.png', '.jpg', '.webp', '.tif')
    config.work_dir = str(root / 'work')
    return config


@pytest.fixture(scope='module', params=CASES)
def case(request, tmp_path_factory):
    """Files, what is to be read of them, and a model and an exported file for such images."""
    load, channels, files, decode = CASES[request.param]
    root = tmp_path_factory.mktemp('data')
    for folder in ('a', 'b'):
        (root / folder).mkdir()
    for name, content in files.items():
        (root / 'a' / name).write_bytes(content)
        (root / 'b' / name).write_bytes(content)
    config = config_for(load, channels, root)
    torch.manual_seed(0)
    torch.save(dict(state_dict=build_model(config).state_dict()), root / 'weights.pth')
    model = load_model(config, root / 'weights.pth', 'cpu')
    exported = root / 'model.torchscript'
    paths = sorted((root / 'a').iterdir())
    images = list(normalised_images(model, paths[:1], (WIDTH, WIDTH), ('height', 'width')))
    export(model, exported, 'torchscript', (HEIGHT, WIDTH), ('height', 'width'), images=images)
    expected = {path.name: channels_first(decode(files[path.name])) for path in paths}
    return config, model, load_model(exported), paths, expected


def channels_first(pixels):
    return np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.float32)


def seen(preprocessor, run):
    """The inputs that a model's preprocessor gets, one after the other."""
    inputs = []

    def note(_, args):
        batch = args[0]['inputs']
        inputs.extend(np.asarray(image).astype(np.float32) for image in batch)

    handle = preprocessor.register_forward_pre_hook(note)
    run()
    handle.remove()
    return inputs


def test_every_way_reads_the_pixels_of_the_decoder(case):
    config, model, exported, paths, expected = case
    init_default_scope('mmpretrain')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    training = [item['inputs'].numpy().astype(np.float32) for item in dataset]
    config.work_dir += '-test'
    ways = {
        'training': training,
        'test.py': seen(model.data_preprocessor, functools.partial(run_test, config, model)),
        'infer.py': seen(model.data_preprocessor, lambda: inference_model(model, paths)),
        'file': seen(exported.shell.data_preprocessor, lambda: inference_model(exported, paths)),
    }
    for way, inputs in ways.items():
        count = len(paths) * (2 if way in ('training', 'test.py') else 1)
        assert len(inputs) == count, way
        for pixels, path in zip(inputs, paths * 2, strict=False):
            np.testing.assert_array_equal(pixels, expected[path.name], f'{way}: {path.name}')


def test_models_and_files_agree_on_such_images(case):
    _, model, exported, paths, _ = case
    for own, other in zip(
        inference_model(model, paths), inference_model(exported, paths), strict=True
    ):
        np.testing.assert_allclose(own['pred_scores'], other['pred_scores'], atol=1e-4)

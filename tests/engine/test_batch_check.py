"""Batches that a model cannot be trained on."""

import shutil

import pytest
from mmengine.hooks import Hook
from paths import ROOT
from PIL import Image

from edgenext_mm.config import load_config
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError


class CountSteps(Hook):
    """Counts the iterations that were done."""

    def __init__(self):
        self.steps = 0

    def after_train_iter(self, runner, **_):
        self.steps += 1


@pytest.fixture
def train(tmp_path, request):
    """Trains one epoch; returns the number of steps and the error, if any."""

    def train(config, **options):
        config.merge_from_dict(options)
        config.work_dir, config.experiment_name = str(tmp_path / 'work'), request.node.name
        config.load_from = None
        runner = build_runner(config)
        count = CountSteps()
        runner.register_hook(count)
        error = None
        try:
            runner.train()
        except UserError as raised:
            error = raised
        return count.steps, error

    return train


def on_scenes(scenes, path, batch_size, **options):
    """A digits' config on the eight scenes."""
    config = load_config(ROOT / 'configs' / path)
    for split in ('train', 'val'):
        config[f'{split}_dataloader'].dataset.data_root = f'{scenes}/'
    config.train_dataloader.batch_size = batch_size
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.model.backbone.init_cfg = None
    config.custom_hooks = []
    config.default_hooks.checkpoint.save_best = None
    config.train_cfg = dict(by_epoch=True, max_epochs=1)
    config.param_scheduler = []
    config.merge_from_dict(options)
    return config


SSDLITE = 'detection/ssdlite_edgenext-xxsmall_digits.py'
DEEPLAB = 'segmentation/deeplabv3_edgenext-xxsmall_digits.py'


@pytest.mark.parametrize(
    ('path', 'layer'), [(SSDLITE, 'neck.'), (DEEPLAB, 'decode_head.image_pool.1.bn')]
)
def test_one_image_in_the_last_batch(train, scenes_root, path, layer):
    last = 'train_dataloader.drop_last'
    assert train(on_scenes(scenes_root, path, 7), **{last: True}) == (1, None)
    steps, error = train(on_scenes(scenes_root, path, 7), **{last: False})
    assert steps == 0
    message = str(error)
    assert 'The 8 training images of a process leave one for the last batch' in message
    assert f'BatchNorm layer `{layer}' in message
    assert 'train_dataloader.drop_last=True' in message


def test_the_check_can_be_disabled(train, scenes_root):
    """Then the last step fails."""
    config = on_scenes(scenes_root, DEEPLAB, 7)
    steps, error = train(
        config, **{'train_dataloader.drop_last': False, 'checks': dict(batches=False)}
    )
    assert steps == 1
    assert 'BatchNorm layer `decode_head.image_pool.1.bn` cannot train' in str(error)


def test_batches_of_one_image(train, scenes_root):
    steps, error = train(on_scenes(scenes_root, SSDLITE, 1))
    assert steps == 0
    assert 'BatchNorm layer `neck.' in str(error)
    assert 'larger train_dataloader.batch_size' in str(error)
    assert isinstance(error.__cause__, ValueError)
    assert 'Expected more than 1 value per channel' in str(error.__cause__)


def test_group_norm_supports_a_last_batch_of_one(train, scenes_root):
    options = {
        'train_dataloader.drop_last': False,
        'model.decode_head.norm_cfg': dict(type='GN', num_groups=8),
    }
    assert train(on_scenes(scenes_root, DEEPLAB, 7), **options) == (2, None)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_fewer_images_than_a_batch(train, digits_training, by_epoch):
    config = digits_training(64, 1)
    assert train(config) == (1, None)
    if not by_epoch:
        config.train_cfg = dict(by_epoch=False, max_iters=2, val_interval=2)
        config.param_scheduler = []
        config.default_hooks.checkpoint.by_epoch = False
    steps, error = train(config, **{'train_dataloader.drop_last': True})
    assert steps == 0
    assert '40 images per process, in batches of 64, and drop_last=True' in str(error)


@pytest.fixture
def sizes(scenes_root, tmp_path):
    """Scenes, each of another size."""
    root = shutil.copytree(scenes_root, tmp_path / 'sizes')
    for split in ('train', 'val'):
        for kind in ('images', 'masks'):
            for i, path in enumerate(sorted((root / split / kind).iterdir())):
                Image.open(path).crop((0, 0, 128, 96 + 4 * i)).save(path)
    return root


def test_a_segmentor_with_images_of_several_sizes(train, sizes):
    config = on_scenes(sizes, DEEPLAB, 4)
    del config.train_dataloader.dataset.pipeline[2]  # the crop
    size = {'model.data_preprocessor.size': (96, 96)}  # which some exceed: they are not padded
    steps, error = train(config, **size)
    assert steps == 0
    message = str(error)
    assert message.startswith('The images of a batch of the train_dataloader have several sizes')
    assert 'model.data_preprocessor.size_divisor=32' in message
    assert 'stack expects each tensor to be equal size' in str(error.__cause__)
    advice = {'model.data_preprocessor.size': None, 'model.data_preprocessor.size_divisor': 32}
    assert train(config, **advice) == (2, None)


def test_validation_with_images_of_several_sizes_is_refused_before_training(train, sizes):
    config = on_scenes(sizes, DEEPLAB, 4)
    original = load_config(ROOT / 'configs' / DEEPLAB)
    config.val_dataloader, config.val_cfg = original.val_dataloader, original.val_cfg
    config.val_evaluator = original.val_evaluator
    config.val_dataloader.dataset.data_root = str(sizes)
    config.val_dataloader.batch_size = 2
    steps, error = train(config)
    assert steps == 0
    assert 'of the val_dataloader have several sizes (96x128, 100x128)' in str(error)
    assert 'val_dataloader.batch_size=1' in str(error)
    assert train(config, **{'val_dataloader.batch_size': 1}) == (2, None)

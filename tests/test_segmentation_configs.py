"""The segmentation recipes, on random data in the layout of VOC 2012, SBD and COCO."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, init_default_scope
from paths import ROOT, free_port
from PIL import Image
from schedules import learning_rates

from edgenext_mm.checkpoints.zoo import find_weights
from edgenext_mm.config import load_config
from edgenext_mm.models.building import build_model

CONFIGS = ROOT / 'configs' / 'segmentation'
RECIPE = 'deeplabv3_edgenext-{}_4xb16-50e_voc12aug-512x512'


def config_of(name):
    return load_config(CONFIGS / f'{name}.py')


def write_pair(root, name, masks, height, width, rng):
    """A noisy image and a mask: background, a class in the middle, VOC's border around it."""
    image = rng.integers(256, size=(height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = 255
    mask[height // 4 + 5 : -height // 4 - 5, width // 4 + 5 : -width // 4 - 5] = rng.integers(1, 21)
    Image.fromarray(image).save(root / 'JPEGImages' / f'{name}.jpg')
    Image.fromarray(mask).save(root / masks / f'{name}.png')


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    """A folder to train in, with data/ as the configs expect it."""
    work = tmp_path_factory.mktemp('voc')
    root = work / 'data/VOCdevkit/VOC2012'
    lists = root / 'ImageSets/Segmentation'
    for folder in (root / 'JPEGImages', root / 'SegmentationClass', lists):
        folder.mkdir(parents=True)
    (root / 'SegmentationClassAug').mkdir()
    rng = np.random.default_rng(0)
    for split, masks, sizes in (
        ('train', 'SegmentationClass', [(375, 500), (500, 333), (120, 100)]),
        ('aug', 'SegmentationClassAug', [(281, 500), (500, 500), (500, 400)]),
        ('val', 'SegmentationClass', [(375, 500), (500, 333)]),
    ):
        names = [f'{split}{i}' for i in range(len(sizes))]
        for name, size in zip(names, sizes, strict=True):
            write_pair(root, name, masks, *size, rng)
        (lists / f'{split}.txt').write_text(''.join(f'{name}\n' for name in names))
    return work


@pytest.fixture(scope='module')
def config():
    return config_of(RECIPE.format('xxsmall'))


@pytest.fixture(scope='module')
def model(config):
    return build_model(config).eval()


@pytest.mark.parametrize('arch', ['xxsmall', 'xsmall', 'small'])
def test_the_recipe_is_the_papers(arch):
    config = config_of(RECIPE.format(arch))
    backbone, head = config.model.backbone, config.model.decode_head
    assert (backbone.arch, backbone.output_stride) == (arch, 16)
    assert head.dilations == (1, 6, 12, 18)
    # Short sides between 256 and 768.
    assert config.train_pipeline[2].scale == [(2048, 256), (2048, 768)]
    assert 'auxiliary_head' not in config.model
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 9e-4, 0.01)
    assert config.train_dataloader.batch_size * 4 == config.auto_scale_lr.base_batch_size == 64
    assert config.default_hooks.checkpoint.save_best == 'mIoU'


def test_the_head_learns_at_ten_times_the_rate(config, model):
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    rates = {id(p): g['lr'] for g in optimizer.param_groups for p in g['params']}
    for name, p in model.named_parameters():
        expected = 9e-3 if name.startswith('decode_head') else 9e-4
        assert rates[id(p)] == pytest.approx(expected), name


def test_rates_warm_up_for_500_steps_then_follow_a_cosine(config):
    steps = 165  # in an epoch of 10,582 images
    rates = learning_rates(config, steps)
    progress = np.arange(50 * steps) / (50 * steps)
    expected = 1e-6 + (9e-4 - 1e-6) * (1 + np.cos(np.pi * progress)) / 2
    assert rates[0] == pytest.approx(9e-5)
    assert rates.index(max(rates)) in range(490, 510)
    np.testing.assert_allclose(rates[500:], expected[500:], rtol=0.02)


def test_training_samples_are_512_and_ignored_where_padded(workplace, config, model, monkeypatch):
    monkeypatch.chdir(workplace)
    init_default_scope('mmseg')
    np.random.seed(0)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 6
    samples = [dataset[i] for i in range(6)]
    data = dict(
        inputs=[s['inputs'] for s in samples], data_samples=[s['data_samples'] for s in samples]
    )
    batch = model.data_preprocessor(data, training=True)
    assert batch['inputs'].shape == (6, 3, 512, 512)
    for sample, before in zip(batch['data_samples'], samples, strict=True):
        labels = sample.gt_sem_seg.data
        assert labels.shape == (1, 512, 512)
        height, width = before['inputs'].shape[1:]
        assert (labels[:, height:] == 255).all()
        assert (labels[..., width:] == 255).all()
        # Rotated by up to 10 degrees, so that corners lie outside of the image.
        corners = [labels[0, y, x].item() for y in (0, height - 1) for x in (0, width - 1)]
        assert corners.count(255) >= 2


def test_predictions_are_made_at_512_and_compared_at_the_size_of_the_image(
    workplace, config, model, monkeypatch
):
    monkeypatch.chdir(workplace)
    init_default_scope('mmseg')
    dataset = DATASETS.build(config.val_dataloader.dataset)
    seen = []
    handle = model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    for index, size in enumerate([(375, 500), (500, 333)]):
        item = dataset[index]
        assert max(item['inputs'].shape[1:]) == 512
        data = dict(inputs=[item['inputs']], data_samples=[item['data_samples']])
        with torch.no_grad():
            result = model.test_step(data)[0]
        assert seen[-1] == (1, 3, 512, 512)
        assert result.pred_sem_seg.data.shape == (1, *size)
        assert result.gt_sem_seg.data.shape == (1, *size)
    handle.remove()


def test_padding_is_cut_off_before_predictions_are_enlarged(model, monkeypatch):
    """A head marks the right half of the image's part of its map."""
    from mmseg.structures import SegDataSample

    def mark(inputs):
        logits = torch.zeros(1, 21, 32, 32)
        logits[:, 0, :, :8] = 1  # half of an image 256 wide, padded to 512
        logits[:, 3, :, 8:] = 1
        return logits

    monkeypatch.setattr(model.decode_head, 'forward', mark)
    sample = SegDataSample(metainfo=dict(ori_shape=(100, 50), img_shape=(512, 256)))
    data = dict(inputs=[torch.zeros(3, 512, 256, dtype=torch.uint8)], data_samples=[sample])
    labels = model.test_step(data)[0].pred_sem_seg.data[0]
    assert labels.shape == (100, 50)
    assert (labels[:, :24] == 0).all()
    assert (labels[:, 26:] == 3).all()


def test_ignored_pixels_are_not_in_the_loss(model):
    head = model.decode_head
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 21, 8, 8), torch.randint(0, 21, (2, 8, 8))
    labels[:, 2:] = 255
    loss = head.loss_decode(logits, labels, ignore_index=head.ignore_index)
    expected = torch.nn.functional.cross_entropy(logits[:, :, :2], labels[:, :2])
    torch.testing.assert_close(loss, expected)


@pytest.mark.usefixtures('mirror')
def test_the_recipe_trains_in_two_processes_on_cpu(workplace, tmp_path):
    """Only batch size and number of epochs are changed."""
    find_weights('edgenext-xxsmall_3rdparty_in1k')  # puts the mirror's file into the cache
    options = ['train_dataloader.batch_size=2', 'train_cfg.max_epochs=1']
    options += ['default_hooks.logger.interval=1']
    for loader in ('train_dataloader', 'val_dataloader'):
        options += [f'{loader}.num_workers=0', f'{loader}.persistent_workers=False']
    config = CONFIGS / f'{RECIPE.format("xxsmall")}.py'
    done = subprocess.run(
        ['bash', ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', tmp_path,
         '--cfg-options', *options],
        env=dict(os.environ, PYTHON=sys.executable, PORT=free_port(), CUDA_VISIBLE_DEVICES=''),
        cwd=workplace,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = tmp_path.glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    losses = [line['loss'] for line in lines if 'loss' in line]
    assert len(losses) == 1  # each process gets 3 of the 6 images, which are one batch
    assert np.isfinite(losses).all()
    assert 0 <= lines[-1]['mIoU'] <= 100
    assert list(tmp_path.glob('best_mIoU_*.pth'))


def test_coco_adds_to_voc_and_sbd(workplace, monkeypatch):
    from edgenext_mm.datasets.voc_masks import convert_coco_to_voc

    monkeypatch.chdir(workplace)
    folder = workplace / 'data/coco/train2017'
    folder.mkdir(parents=True)
    Image.new('RGB', (640, 480)).save(folder / '000000000009.jpg')
    content = dict(
        images=[dict(id=9, file_name='000000000009.jpg', height=480, width=640)],
        annotations=[
            dict(id=1, image_id=9, category_id=5, segmentation=[[0, 0, 99, 0, 99, 99, 0, 99]])
        ],
        categories=[dict(id=5, name='airplane')],
    )
    annotations = workplace / 'instances.json'
    annotations.write_text(json.dumps(content))
    convert_coco_to_voc(annotations, folder, 'data/coco_voc')

    config = config_of(RECIPE.format('small').replace('aug-', 'aug-coco-'))
    init_default_scope('mmseg')
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 7
    labels = dataset[6]['data_samples'].gt_sem_seg.data
    assert set(labels.unique().tolist()) <= {0, 1, 255}
    plain = config_of(RECIPE.format('small'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'val_dataloader'):
        assert config[key] == plain[key]


def test_segformer_takes_all_stages_normalised():
    model = build_model(config_of(RECIPE.format('small').replace('deeplabv3', 'segformer')))
    model.eval()
    with torch.no_grad():
        features = model.extract_feat(torch.rand(1, 3, 512, 512))
        logits = model(torch.rand(1, 3, 512, 512), mode='tensor')
    sizes = [(48, 128, 128), (96, 64, 64), (160, 32, 32), (304, 16, 16)]
    assert [tuple(f.shape[1:]) for f in features] == sizes
    for feature in features:  # fresh LayerNorms: mean 0, variance 1 over channels
        torch.testing.assert_close(
            feature.mean(1), torch.zeros_like(feature[:, 0]), atol=1e-5, rtol=0
        )
    assert logits.shape == (1, 21, 128, 128)


def test_digits_train_with_weights_on_the_classes():
    config = config_of('deeplabv3_edgenext-xxsmall_digits')
    model = build_model(config)
    assert model.num_classes == len(config.metainfo.classes) == len(config.metainfo.palette) == 11
    head = model.decode_head
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 11, 8, 8), torch.randint(0, 11, (2, 8, 8))
    labels[:, 6:] = 255
    weights = torch.tensor(config.model.decode_head.loss_decode.class_weight)
    assert weights[0] < weights[1:].min()
    expected = torch.nn.functional.cross_entropy(logits[:, :, :6], labels[:, :6], weight=weights)
    loss = head.loss_decode(logits, labels, ignore_index=head.ignore_index)
    torch.testing.assert_close(loss, expected)

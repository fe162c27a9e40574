"""From annotations to a trained model with the recipes for custom data."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, init_default_scope
from paths import RECIPES as RECIPE_FILES
from paths import ROOT
from PIL import Image
from pycocotools.coco import COCO
from shapely.geometry import Polygon

from edgenext_mm import inference_model
from edgenext_mm.config import load_config
from edgenext_mm.datasets.custom.layout import CustomData
from edgenext_mm.datasets.custom.proposals import RECIPES, propose
from edgenext_mm.datasets.importing import import_data
from edgenext_mm.engine.runner import Runner
from edgenext_mm.errors import UserError

ALL = [(task, recipe) for task, recipes in RECIPES.items() for recipe in recipes]
SMALL_SETTINGS = dict(batch_size=2, max_epochs=1, num_workers=0)
DIGITS = tuple('0123456789')


@pytest.fixture(scope='module')
def imported(scenes_root, few_digits, tmp_path_factory):
    """Folders that import_data wrote, by task."""
    folders = {}

    def find(task):
        if task not in folders:
            folder = tmp_path_factory.mktemp('imported') / task
            source = few_digits if task == 'classification' else scenes_root
            options = {
                'segmentation': dict(format='masks', classes=('background', *DIGITS)),
                'rotated-detection': dict(format='dota', classes=DIGITS),
            }.get(task, dict(format='auto' if task == 'classification' else 'coco'))
            import_data(source, task, folder, pretrained=False, **options)
            folders[task] = folder
        return folders[task]

    return find


def write_config(folder, task, recipe):
    proposal = propose(CustomData(folder, task), folder, recipe, pretrained=False)
    path = folder / f'{proposal.name}.py'
    path.write_text(proposal.text())
    return path


def test_every_recipe_is_offered():
    offered = {recipe.config for recipes in RECIPES.values() for recipe in recipes.values()}
    files = {str(p.relative_to(ROOT / 'configs').with_suffix('')) for p in RECIPE_FILES}
    assert offered == files


@pytest.mark.parametrize(('task', 'recipe'), ALL, ids=[recipe for _, recipe in ALL])
def test_a_config_of_ten_lines_trains_tests_and_runs_without_the_data(
    task, recipe, imported, tmp_path, call_tool, scenes_root
):
    path = write_config(imported(task), task, recipe)
    assert len(path.read_text().splitlines()) <= 10
    small = dict(SMALL_SETTINGS, image_size=64 if task == 'classification' else (96, 64))
    work = tmp_path / 'work'
    call_tool(
        'train.py', path, '--work-dir', work, '--cfg-options',
        *[f'{name}={json.dumps(value).replace(" ", "")}' for name, value in small.items()],
    )  # fmt: skip
    written = work / path.name
    assert '$' not in written.read_text()
    config = Config.fromfile(written)
    expected = ('background', *DIGITS) if task == 'segmentation' else DIGITS
    assert tuple(config.train_dataloader.dataset.metainfo.classes) == expected
    for split in ('val', 'test'):
        assert tuple(config[f'{split}_dataloader'].dataset.metainfo.classes) == expected
    assert config.param_scheduler[-1].end == config.train_cfg.max_epochs == 1

    config.merge_from_dict(
        {f'{s}_dataloader.dataset.data_root': 'gone' for s in ('train', 'val', 'test')}
    )
    config.data_root = 'gone'
    moved = tmp_path / 'moved.py'
    config.dump(moved)
    image = scenes_root / 'val' / 'images' / '0000.png'
    result = inference_model(moved, image, work / 'epoch_1.pth', score_thr=0)
    assert set(result) & {'pred_class', 'bboxes', 'sem_seg'}
    call_tool(
        'test.py',
        path,
        work / 'epoch_1.pth',
        '--work-dir',
        work,
        '--cfg-options',
        *[f'{name}={json.dumps(value).replace(" ", "")}' for name, value in small.items()],
    )


def test_ssdlites_anchors_follow_the_image_size_and_hand_set_sizes_win(imported):
    path = write_config(imported('detection'), 'detection', 'ssdlite')
    sizes = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    config = load_config(path, dict(image_size=(200, 100), anchor_sizes=sizes))
    anchors = config.model.bbox_head.anchor_generator
    assert anchors.min_sizes == pytest.approx([20, 40, 60, 80, 100, 120])
    assert anchors.max_sizes == pytest.approx([40, 60, 80, 100, 120, 140])
    assert anchors.strides[0] == pytest.approx((200 / 13, 100 / 7))


@pytest.mark.parametrize(
    'task', [task for task in RECIPES if 'detection' in task or 'inst' in task]
)
def test_scales_of_the_proposals_are_those_of_the_recipes(task):
    for recipe in RECIPES[task].values():
        if recipe.scale is not None:
            config = Config.fromfile(ROOT / 'configs' / f'{recipe.config}.py')
            scale, strides, ratios = recipe.scale
            assert config.default_anchor_scale == scale
            assert tuple(config.get('anchor_strides', strides)) == tuple(strides)
            assert tuple(config.get('anchor_ratios', ratios)) == tuple(ratios)
            head = config.model.get('rpn_head') or config.model.bbox_head
            assert tuple(head.anchor_generator.strides) == tuple(strides)
            assert tuple(head.anchor_generator.ratios) == tuple(ratios)


def test_metrics_read_what_the_loader_reads(imported):
    path = write_config(imported('detection'), 'detection', 'gfl')
    config = load_config(path, {'val_dataloader.dataset.ann_file': 'annotations/other.json'})
    assert config.val_evaluator.ann_file == f'{imported("detection")}/annotations/other.json'


@pytest.mark.parametrize(
    ('task', 'recipe'), [pair for pair in ALL if pair[1] not in ('edgenext', 'ssdlite')], ids=str
)
def test_crops_have_the_width_and_height_that_are_set(task, recipe, imported):
    """The libraries differ in the order of the sides of a crop."""
    path = write_config(imported(task), task, recipe)
    options = dict(image_size=(256, 256), crop_size=(96, 64), num_workers=0)
    config = load_config(path, options)
    init_default_scope(config.default_scope)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    shapes = {tuple(dataset[i % len(dataset)]['inputs'].shape[-2:]) for i in range(8)}
    assert shapes == {(64, 96)}


def test_the_learning_rate_follows_the_batch(imported, tmp_path):
    path = write_config(imported('classification'), 'classification', 'edgenext')
    config = load_config(path, dict(batch_size=16, lr=1e-3, num_workers=0, image_size=32))
    config.work_dir = str(tmp_path)
    runner = Runner.from_cfg(config)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
    assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(1e-3 * 16 / 64)


class LearningRates(Hook):
    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, **kwargs):
        self.seen.append(runner.optim_wrapper.get_lr()['lr'][0])


@pytest.mark.parametrize('max_epochs', [1, 2])
def test_an_epoch_may_have_one_step(max_epochs, imported, tmp_path):
    folder = imported('classification')
    path = write_config(folder, 'classification', 'edgenext')
    count = sum(1 for file in folder.glob('train/*/*') if file.is_file())
    options = dict(SMALL_SETTINGS, batch_size=count, max_epochs=max_epochs, image_size=32)
    config = load_config(path, options)
    config.work_dir = str(tmp_path)
    runner = Runner.from_cfg(config)
    rates = LearningRates()
    runner.register_hook(rates)
    runner.train()
    assert len(rates.seen) == max_epochs
    assert rates.seen[0] == pytest.approx(config.optim_wrapper.optimizer.lr * count / 64)


def test_a_runner_built_from_the_plain_config_replaces_placeholders(imported, tmp_path):
    path = write_config(imported('classification'), 'classification', 'edgenext')
    config = Config.fromfile(path)
    config.work_dir = str(tmp_path)
    init_default_scope('mmpretrain')
    assert Runner.from_cfg(config).model.head.num_classes == 10


# What is read from the data.


def test_boxes_are_those_that_pycocotools_reads(imported):
    root = imported('detection')
    coco = COCO(str(root / 'annotations' / 'train.json'))
    expected = []
    for entry in coco.loadAnns(coco.getAnnIds()):
        (x, y, w, h), image = entry['bbox'], coco.imgs[entry['image_id']]
        size = (image['width'], image['height'])
        expected.append((x + w / 2, y + h / 2, w, h, *size, entry['category_id']))
    np.testing.assert_allclose(CustomData(root, 'detection').boxes(), expected)


def test_rotated_boxes_are_those_that_shapely_measures(imported):
    root = imported('rotated-detection')
    data = CustomData(root, 'rotated-detection')
    lines = [
        line.split()
        for file in sorted((root / 'train' / 'labelTxt').glob('*.txt'))
        for line in file.read_text().splitlines()
    ]
    polygons = [Polygon(np.array(fields[:8], float).reshape(4, 2)) for fields in lines]
    boxes = data.boxes()
    np.testing.assert_allclose(boxes[:, 2] * boxes[:, 3], [p.area for p in polygons], rtol=0.02)
    np.testing.assert_allclose(boxes[:, 0], [p.centroid.x for p in polygons], atol=0.1)
    assert [data.classes()[int(i)] for i in boxes[:, 6]] == [fields[8] for fields in lines]


def test_proposals_follow_from_the_data(tmp_path):
    """2,000 images of 640x480 with objects of 64 pixels: twice what SSDLite needs."""
    root = tmp_path / 'data'
    (root / 'train' / 'images').mkdir(parents=True)
    (root / 'annotations').mkdir()
    for i in range(3):
        Image.new('L', (640, 480)).save(root / 'train' / 'images' / f'{i}.png')
    for i in range(3, 2000):
        (root / 'train' / 'images' / f'{i}.png').symlink_to(root / 'train' / 'images' / '0.png')
    content = dict(
        images=[dict(id=i, file_name=f'{i}.png', width=640, height=480) for i in range(3)],
        annotations=[
            dict(id=i, image_id=i, category_id=1, bbox=[9, 9, 64, 64], area=4096) for i in range(3)
        ],
        categories=[dict(id=1, name='cell')],
    )
    (root / 'annotations' / 'train.json').write_text(json.dumps(content))
    found = propose(CustomData(root, 'detection'), 'data/cells').settings
    assert found['image_size'] == (320, 256)  # half, in multiples of 32
    assert found['batch_size'] == 16
    assert found['max_epochs'] == 10  # 20,000 images
    gfl = propose(CustomData(root, 'detection'), 'data/cells', 'gfl').settings
    assert gfl['image_size'] == (320, 256)  # not below 320


def test_a_detector_without_anchors_gets_none(imported):
    root = imported('rotated-detection')
    settings = propose(CustomData(root, 'rotated-detection'), root, 'rotated-rtmdet').settings
    assert not {'anchor_sizes', 'anchor_scale'} & set(settings)


def test_a_recipe_of_another_task_is_an_error(imported):
    with pytest.raises(UserError, match="must be one of ssdlite, gfl, got 'deeplabv3'"):
        propose(CustomData(imported('detection'), 'detection'), 'x', 'deeplabv3')


def test_data_in_another_layout_are_an_error(tmp_path):
    with pytest.raises(UserError, match=r'train.json does not exist. For detection'):
        CustomData(tmp_path, 'detection').classes()
    with pytest.raises(UserError, match='`task` must be one of classification'):
        CustomData(tmp_path, 'pose')

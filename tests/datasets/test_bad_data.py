"""What training does about bad samples: it stops with their name, or skips and lists them."""

import json
import multiprocessing
import pickle
import shutil

import cv2
import numpy as np
import pytest
from broken_images import broken, encode, picture
from mmcv.transforms import LoadImageFromFile
from mmengine.dataset import Compose
from mmengine.fileio import LocalBackend, register_backend
from mmengine.registry import DATASETS, init_default_scope
from mmpretrain.datasets import CustomDataset
from spoiled_data import (
    DETECTION,
    DIGITS,
    ROTATED,
    SEGMENTATION,
    change_coco,
    config_on,
    spoil_boxes,
    spoil_masks,
)
from torch.utils.data import DataLoader

from edgenext_mm.datasets.bad_data import (
    BadDataPolicy,
    BadSampleError,
    BadSampleList,
    guarded_dataset,
)
from edgenext_mm.datasets.checks.config_data import check_data
from edgenext_mm.datasets.multi_scale_sampler import SizedIndex
from edgenext_mm.engine.runner import build_runner
from edgenext_mm.errors import UserError
from edgenext_mm.registry import TRANSFORMS

SKIP_ALL = dict(policy='skip', max_fraction=1.0)


@pytest.fixture
def build(tmp_path):
    """Builds the training data of a config, with a policy."""

    def build(config, **policy):
        init_default_scope(config.default_scope)
        return DATASETS.build(
            dict(
                type=guarded_dataset,
                dataset=config.train_dataloader.dataset,
                policy=BadDataPolicy(**policy),
                skipped=BadSampleList(tmp_path / 'work' / 'bad_samples.jsonl'),
            )
        )

    return build


@pytest.fixture
def listed(tmp_path):
    """Names of the files in the list, in its order."""

    def listed():
        entries = BadSampleList(tmp_path / 'work' / 'bad_samples.jsonl').read()
        return [entry['file'].rsplit('/', 1)[-1] for entry in entries]

    return listed


@pytest.fixture
def spoiled(few_digits, tmp_path):
    """Gives digits whose first zero has other content, and the path of that zero."""

    def spoil(content):
        root = shutil.copytree(few_digits, tmp_path / 'data')
        victim = sorted((root / 'train' / '0').iterdir())[0]
        victim.write_bytes(content)
        return root, victim

    return spoil


def names(dataset):
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    return [info['img_path'].rsplit('/', 1)[-1] for info in infos]


def test_training_stops_at_each_broken_file_with_its_name(build, folder_of_all):
    dataset = build(config_on(DIGITS, folder_of_all))
    bad = {f'{name}.jpg' for name in broken()}
    for index, name in enumerate(names(dataset)):
        if name in bad:
            with pytest.raises(BadSampleError, match=rf'/{name} (is|has|failed)'):
                dataset[index]
        else:
            assert dataset[index]['data_samples'].img_path.endswith(name)


def test_skipping_takes_the_next_good_sample_and_lists_each_file_once(build, folder_of_all, listed):
    dataset = build(config_on(DIGITS, folder_of_all), **SKIP_ALL)
    bad = {f'{name}.jpg' for name in broken()}
    order = names(dataset)
    for _ in range(2):
        for index in range(len(dataset)):
            good = next(n for n in order[index:] + order[:index] if n not in bad)
            assert dataset[index]['data_samples'].img_path.endswith(good)
    assert sorted(listed()) == sorted(bad)


def test_worker_processes_skip_the_same_samples(build, folder_of_all, listed):
    dataset = build(config_on(DIGITS, folder_of_all), **SKIP_ALL)
    alone = [
        sample['data_samples'].img_path for sample in map(dataset.__getitem__, range(len(dataset)))
    ]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, collate_fn=lambda sample: sample)
    assert [sample['data_samples'].img_path for sample in loader] == alone
    assert sorted(listed()) == sorted(f'{name}.jpg' for name in broken())


def test_processes_that_are_not_forked_check_samples_too(build, folder_of_all):
    """Where processes are spawned, they get the data set as bytes."""
    dataset = build(config_on(DIGITS, folder_of_all))
    copy = pickle.loads(pickle.dumps(dataset))
    assert isinstance(copy, CustomDataset)
    assert names(copy) == names(dataset)
    index = names(copy).index(f'{next(iter(broken()))}.jpg')
    with pytest.raises(BadSampleError):
        copy[index]


def test_an_error_of_a_worker_process_is_one_paragraph(build, spoiled):
    root, victim = spoiled(b'')
    dataset = build(config_on(DIGITS, root))
    with pytest.raises(BadSampleError) as error:
        next(iter(DataLoader(dataset, batch_size=None, num_workers=1)))
    assert str(error.value).startswith(f'{victim} is empty (zero bytes).')
    assert 'Traceback' not in str(error.value)


@TRANSFORMS.register_module()
class WithABug:
    """A transform of a user: a mistake of programming, or an error as decoders raise it."""

    def __init__(self, kind):
        self.kind = kind

    def __call__(self, results):
        raise self.kind('a bug of mine')


@pytest.mark.parametrize('policy', [{}, SKIP_ALL], ids=['stop', 'skip'])
@pytest.mark.parametrize('kind', [IndexError, ValueError, OSError])
def test_a_bug_in_a_transform_is_not_the_fault_of_a_file(build, few_digits, listed, policy, kind):
    config = config_on(DIGITS, few_digits)
    leaf = config.train_dataloader.dataset
    leaf.pipeline[1:] = [dict(type='edgenext_mm.WithABug', kind=kind)]
    config.train_dataloader.dataset = dict(type='RepeatDataset', times=2, dataset=leaf)
    dataset = build(config, **policy)
    with pytest.raises(kind, match=r'^a bug of mine$') as error:
        dataset[0]
    assert error.traceback[-1].name == '__call__'
    assert listed() == []


def test_a_bug_in_a_transform_keeps_its_traceback_in_worker_processes(build, few_digits):
    config = config_on(DIGITS, few_digits)
    config.train_dataloader.dataset.pipeline[1:] = [dict(type='edgenext_mm.WithABug', kind=OSError)]
    with pytest.raises(OSError, match='a bug of mine') as error:
        next(iter(DataLoader(build(config), num_workers=1)))
    assert "raise self.kind('a bug of mine')" in str(error.value)


def test_a_bug_in_a_mosaic_is_not_either(build, scenes, listed):
    """A wrapper that loads further images, one of them broken, and a pipeline of its own."""
    (scenes / 'train' / 'images' / '0003.png').write_bytes(b'')
    config = config_on(DETECTION, scenes)
    leaf = config.train_dataloader.dataset
    load, pack = leaf.pipeline[:2], leaf.pipeline[-1]
    mosaic = dict(type='Mosaic', img_scale=(64, 64))
    leaf.pipeline = load
    config.train_dataloader.dataset = dict(
        type='MultiImageMixDataset', dataset=leaf, pipeline=[mosaic, pack]
    )
    dataset = build(config, **SKIP_ALL)
    assert all(len(dataset[i]['data_samples'].gt_instances) for i in range(8))
    assert listed() == ['0003.png']
    config.train_dataloader.dataset.pipeline[0] = dict(type='edgenext_mm.WithABug', kind=IndexError)
    with pytest.raises(IndexError, match=r'^a bug of mine$'):
        build(config, **SKIP_ALL)[0]


def test_the_traceback_of_a_broken_file_is_kept(build, spoiled):
    root, victim = spoiled(b'<html>')
    dataset = build(config_on(DIGITS, root))
    for get in (lambda: dataset[0], lambda: next(iter(DataLoader(dataset, num_workers=1)))):
        with pytest.raises(BadSampleError, match=f'^{victim} failed with ') as error:
            get()
        assert 'AssertionError: failed to load image' in str(error.getrepr(style='short'))


@register_backend('edgenext_mm_test_counting')
class CountingBackend(LocalBackend):
    """Files on disk; notes which ones are read."""

    read: list[str] = []

    def get(self, filepath):
        self.read.append(str(filepath).rsplit('/', 1)[-1])
        return super().get(filepath)


@pytest.mark.parametrize('skips', [False, True])
def test_each_file_is_fetched_once(build, scenes, skips):
    config = config_on(SEGMENTATION, scenes)
    for step in config.train_dataloader.dataset.pipeline[:2]:
        step.backend_args = dict(backend='edgenext_mm_test_counting')
    dataset = build(config, **(SKIP_ALL if skips else {}))
    CountingBackend.read.clear()
    assert dataset[3]['inputs'].shape[0] == 3
    assert CountingBackend.read == ['0003.png', '0003.png']  # the image and its mask
    loader = dataset.pipeline.transforms[0]
    assert isinstance(loader, LoadImageFromFile)


def test_the_checks_can_be_switched_off(digits_training, spoiled):
    config = digits_training(8, 1)
    config.bad_data = None
    config.train_dataloader.dataset.data_root = str(spoiled(b'')[0])
    dataset = build_runner(config).train_dataloader.dataset
    with pytest.raises(Exception, match=r'(?i)empty') as error:
        dataset[0]
    assert not isinstance(error.value, UserError)


def test_a_few_may_be_skipped_and_no_more(build, few_digits, tmp_path):
    shutil.copytree(few_digits, tmp_path / 'data')
    for path in sorted((tmp_path / 'data' / 'train' / '4').iterdir())[:3]:
        path.write_bytes(b'<html>')
    dataset = build(config_on(DIGITS, tmp_path / 'data'), policy='skip', max_fraction=0.05)
    with pytest.raises(
        BadSampleError, match=r'3 training images cannot be used; `bad_data.max_fraction` allows 2'
    ):
        list(map(dataset.__getitem__, range(len(dataset))))


def test_a_replacement_has_the_image_size_of_the_batch(build, spoiled):
    path = 'classification/edgenext-xxsmall_digits-multi-scale.py'
    dataset = build(config_on(path, spoiled(b'')[0]), **SKIP_ALL)
    assert dataset[SizedIndex(0, (48, 48))]['inputs'].shape == (3, 48, 48)


def test_data_sets_within_data_sets_are_guarded(build, spoiled, listed):
    config = config_on(DIGITS, spoiled(b'')[0])
    leaf = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[leaf, leaf])
    )
    dataset = build(config, **SKIP_ALL)
    assert len([dataset[i] for i in range(len(dataset))]) == 160
    assert len(listed()) == 1


def test_a_pipeline_that_a_hook_replaces_is_checked_too(build, spoiled):
    content = encode(picture(), 'PNG')
    root, victim = spoiled(content)
    config = config_on(DIGITS, root)
    dataset = build(config)
    assert dataset[0]['inputs'].shape[0] == 3
    dataset.pipeline = Compose(config.train_dataloader.dataset.pipeline)
    loader = dataset.pipeline.transforms[0]
    before = dict(vars(loader))
    victim.write_bytes(content[:-4])
    with pytest.raises(BadSampleError, match='is cut short'):
        dataset[0]
    assert vars(loader) == before  # the step of the hook is not changed


def test_floats_that_a_decoder_would_clip_are_refused(build, spoiled):
    colours = np.random.default_rng(0).random((9, 9, 3), np.float32)
    root, victim = spoiled(cv2.imencode('.tif', colours)[1].tobytes())
    with pytest.raises(BadSampleError, match=f'^{victim} is a TIFF of floats'):
        build(config_on(DIGITS, root))[0]


def test_detection_skips_images_with_impossible_boxes(build, scenes, listed):
    found = change_coco(scenes, spoil_boxes)
    errors = {name for name, kind in found if kind not in ('box_empty', 'box_partly_outside')}
    config = config_on(DETECTION, scenes)
    with pytest.raises(UserError, match=r'0000.png has the box .* \(annotation 1\)'):
        check_data(config, 'train')
    check_data(config, 'train', samples=False)
    dataset = build(config, **SKIP_ALL)
    assert len([dataset[i] for i in range(len(dataset))]) == 8
    assert set(listed()) == errors


def test_detection_stops_at_sizes_that_disagree(build, scenes):
    change_coco(scenes, lambda content: content['images'][2].update(width=256))
    dataset = build(config_on(DETECTION, scenes))
    with pytest.raises(BadSampleError, match=r'0002.png has 128x128 .* for 256x128'):
        dataset[2]


def test_rotated_detection_skips(build, scenes, listed):
    (scenes / 'train' / 'labelTxt' / '0000.txt').write_text('-9 -9 -5 -9 -5 -5 -9 -5 3 0')
    (scenes / 'train' / 'images' / '0003.png').unlink()
    dataset = build(config_on(ROTATED, scenes), **SKIP_ALL)
    assert len([dataset[i] for i in range(len(dataset))]) == 8
    assert sorted(listed()) == ['0000.png', '0003.png']


def test_segmentation_stops_and_skips_at_each_mask(build, scenes, listed):
    expected = spoil_masks(scenes)
    config = config_on(SEGMENTATION, scenes)
    dataset = build(config)
    for index in range(8):
        with pytest.raises(BadSampleError, match=f'/000{index}.png '):
            dataset[index]
    masks = scenes / 'train' / 'masks'
    shutil.copy(masks / '0002.png', masks / '0007.png')
    (masks / '0007.png').write_bytes(encode(picture(128, 128)[..., 0] // 30, 'PNG'))
    (scenes / 'train' / 'images' / '0007.png').write_bytes(encode(picture(128, 128), 'PNG'))
    dataset = build(config, **SKIP_ALL)
    assert len([dataset[i] for i in range(len(dataset))]) == 8
    assert len(listed()) == len(expected) - 1


def add_all(path, barrier):
    barrier.wait()
    for index in range(20):
        BadSampleList(path).add(f'{index}.jpg', 'is bad.', limit=20)


def test_processes_share_a_list(tmp_path):
    context = multiprocessing.get_context('fork')
    barrier = context.Barrier(4)
    path = tmp_path / 'bad_samples.jsonl'
    processes = [context.Process(target=add_all, args=(path, barrier)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    files = [json.loads(line)['file'] for line in path.read_text().splitlines()]
    assert sorted(files) == sorted(f'{i}.jpg' for i in range(20))


@pytest.mark.parametrize(
    'wrong', [dict(policy='ignore'), dict(policy='skip', max_fraction=1.5), dict(action='skip')]
)
def test_policies_that_are_none(wrong):
    with pytest.raises(UserError, match=r"It takes `policy`, one of 'stop', 'skip'"):
        BadDataPolicy.of(dict(bad_data=wrong))

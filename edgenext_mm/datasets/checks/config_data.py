"""The data of a config: checked before it is used, or looked at sample by sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import DATASETS, init_default_scope

from ...check_settings import is_checked
from ...errors import UserError
from ..palette import ignored_value
from .annotation_files import (
    check_coco_images,
    check_dota_images,
    check_listed_images,
    check_mask_files,
    coco_problems,
    dota_folder_problems,
    masks_problems,
    read_coco,
    read_lines,
    refuse,
)
from .annotations import HOW_TO_NAME_CLASSES, label_list_problems
from .classes import (
    class_folders,
    left_out_files,
    name_problems,
    named_folder_problems,
    numbered_folder_problems,
    split_problems,
)
from .findings import Located, Problem, listing

_SPLITS = ('train', 'val', 'test')


def check_data(config: Config, *splits: str, samples: bool = True) -> None:
    """Makes sure that the data of a config is there and fits, before anything is built.

    Args:
        config: A full config. Its ``checks`` may switch off the checks of ``classes`` or ``data``.
        *splits: Of ``train``, ``val`` and ``test``.
        samples: Whether faults of single samples count, such as a missing image. Default: True.

    Raises:
        UserError: If a folder or file is missing, annotations do not fit the classes, data sets
            disagree on the classes, or the heads of the model are for another number of classes.
    """
    init_default_scope(config.get('default_scope', 'mmengine'))
    for split in splits:
        for dataset in leaves(_dataset(config, split)):
            check_folders(config, split, dataset)
    refuse(config_problems(config, *splits))
    for split in splits:
        for dataset in leaves(_dataset(config, split)):
            check_content(config, split, dataset, samples)


def describe_data(config: Config, split: str) -> str:
    """How much data a split holds, and where, after :func:`check_data`.

    Args:
        config: A full config.
        split: ``train``, ``val`` or ``test``.
    """
    loader = config.get(f'{split}_dataloader')
    if not loader:
        return 'none in this config'
    dataset = DATASETS.build(loader.dataset)
    classes = dataset.metainfo.get('classes')
    places = ', '.join(dict.fromkeys(leaf.get('data_root', '') for leaf in leaves(loader.dataset)))
    return f'{len(dataset):,} images' + (
        f', {len(classes):,} classes, in {places}' if classes else f' in {places}'
    )


def leaves(dataset: ConfigDict) -> Iterator[ConfigDict]:
    """The data sets within wrappers: RepeatDataset, ConcatDataset and the like."""
    inner = dataset.get('datasets') or ([dataset.dataset] if 'dataset' in dataset else [])
    for child in inner:
        yield from leaves(child)
    if not inner and dataset:
        yield dataset


def check_folders(config: Config, split: str, dataset: ConfigDict) -> None:
    """Makes sure that the folders of a data set are there.

    Raises:
        UserError: If one is not.
    """
    root, prefix = dataset.get('data_root') or '', dataset.get('data_prefix') or {}
    prefixes = [prefix] if isinstance(prefix, str) else [*prefix.values()] or ['']
    for folder in (Path(root, prefix) for prefix in prefixes):
        if root and '://' not in root and not folder.is_dir():
            raise UserError(
                f"The folder '{folder}' of {split}_dataloader does not exist (looked for it at "
                f'{folder.resolve()}). '
                + config.get(
                    'data_preparation',
                    'Put the data there, or name its place with --cfg-options '
                    f'{split}_dataloader.dataset.data_root=FOLDER.',
                )
            )


def check_content(config: Config, split: str, dataset: ConfigDict, samples: bool = True) -> None:
    """Makes sure that the annotations of a data set fit its images and the model.

    Raises:
        UserError: As :func:`check_data`.
    """
    source = find_source(config, dataset)
    if source is None:
        return
    refuse(annotation_problems(config, split, dataset, source, samples))
    if not is_checked(config, 'data'):
        return
    if samples:
        _check_files(source)
    refuse(mask_problems_of(config, source, samples))


def _check_files(source: Source) -> None:
    lazy = source.lazy
    if source.format == 'list':
        check_listed_images(lazy.ann_file, lazy.img_prefix)
    elif source.format == 'coco':
        check_coco_images(lazy.ann_file, lazy.data_prefix['img'])
    elif source.format == 'dota':
        check_dota_images(lazy.ann_file, lazy.data_prefix['img_path'], lazy.img_suffix)
    elif source.format == 'masks':
        check_mask_files(lazy.load_data_list())


def annotation_problems(
    config: Config, split: str, dataset: ConfigDict, source: Source, samples: bool = True
) -> Iterator[Located]:
    """What is wrong with the annotations of a data set, as far as annotation files, names of
    files and some masks show it.

    Args:
        config: A full config.
        split: ``train``, ``val`` or ``test``.
        dataset: Of the split.
        source: Of the data set.
        samples: Whether faults of single samples count. Default: True.

    Raises:
        UserError: If an annotation file cannot be read.
    """
    if is_checked(config, 'classes'):
        yield from _class_problems(config, split, dataset, source)
    if is_checked(config, 'data'):
        yield from _entry_problems(config, split, dataset, source, samples)


def _class_problems(
    config: Config, split: str, dataset: ConfigDict, source: Source
) -> Iterator[Located]:
    lazy, problems = source.lazy, []
    if source.format == 'folders':
        check = named_folder_problems if source.by_name else numbered_folder_problems
        problems = list(check(lazy.img_prefix, lazy.metainfo.get('classes')))
        yield from ((lazy.img_prefix, problem) for problem in problems)
    if source.classes is not None and not problems:
        advice = _advice(split, dataset, source)
        yield from head_problems(config.get('model', {}), source.classes, advice)


def _entry_problems(
    config: Config, split: str, dataset: ConfigDict, source: Source, samples: bool
) -> Iterator[Located]:
    lazy, classes = source.lazy, source.classes or ()
    if source.format == 'folders':
        found = left_out_files(lazy.img_prefix, lazy.extensions)
        yield from ((lazy.img_prefix, problem) for problem in found)
    elif source.format == 'masks' and not lazy.ann_file:
        folder = lazy.data_prefix['img_path']
        found = left_out_files(folder, (lazy.img_suffix,), fold_case=False)
        yield from ((folder, problem) for problem in found)
    elif source.format == 'list':
        lines = read_lines(lazy.ann_file)
        yield from label_list_problems(lines, lazy.ann_file, source.num_classes)
    elif source.format == 'coco':
        yield from coco_problems(
            lazy.ann_file,
            lazy.data_prefix['img'],
            classes,
            samples,
            filter_cfg=lazy.filter_cfg,
            training=not lazy.test_mode,
            evaluated=bool(_coco_metrics(config, split)),
            outlines=_needs_outlines(config, split, dataset),
            sorted_by_id='Objects365' in type(lazy).__name__,
        )
    elif source.format == 'dota':
        yield from dota_folder_problems(
            lazy.ann_file, lazy.data_prefix['img_path'], lazy.img_suffix, classes, lazy.diff_thr
        )


def mask_problems_of(config: Config, source: Source, single: bool = True) -> Iterator[Located]:
    """What is wrong with masks of a data set, of which up to 200 are looked at.

    Args:
        config: A full config.
        source: Of the data set.
        single: Whether faults of single masks count. Default: True.
    """
    if source.format == 'masks' and source.num_classes is not None:
        yield from masks_problems(
            source.lazy.load_data_list(),
            source.num_classes,
            source.lazy.reduce_zero_label,
            ignored_value(config),
            single,
        )


@dataclass(frozen=True)
class Source:
    """Where a data set's annotations are.

    Args:
        lazy: The data set before it is loaded, which knows the places of its files.
        format: ``folders``, ``list`` (lines of a path and a label), ``coco``, ``dota``, ``masks``
            or ``none``.
        classes: By name, if anything names them.
        num_classes: Of the data set or else the model's heads, if they say.
        by_name: Whether folders are found by the names of the classes, not numbered.
    """

    lazy: Any
    format: str
    classes: Sequence[str] | None
    num_classes: int | None
    by_name: bool = False


def find_source(config: Config, dataset: ConfigDict) -> Source | None:
    """Where the annotations of a data set are; None for other formats, and for remote storage.

    Raises:
        UserError: If there is no annotation file, or there are no folders.
    """
    if '://' in (dataset.get('data_root') or ''):
        return None
    kinds = _kinds(config, dataset)
    if not kinds & {'CustomDataset', 'CocoDataset', 'DOTADataset', 'BaseSegDataset'}:
        return None
    if kinds & {'CocoPanopticDataset', 'LVISV05Dataset'}:  # COCO's format, with other keys
        return None
    ann_file = Path(dataset.get('data_root') or '', dataset.get('ann_file') or '')
    if not ann_file.exists():
        raise UserError(f'There is no annotation file {ann_file}.')
    lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
    form = _format_of(lazy, kinds)
    classes = lazy.metainfo.get('classes')
    if any(name_problems(classes)):  # which check_data refuses
        return Source(lazy, 'none', None, None)
    if form == 'folders' and classes is None:
        classes = class_folders(lazy.img_prefix)
    heads = [number for _, number in _heads(config.get('model', {}))]
    num_classes = len(classes) if classes is not None else next(iter(heads), None)
    return Source(lazy, form, classes, num_classes, 'ImageFolder' in kinds)


def _dataset(config: Config, split: str) -> ConfigDict:
    return (config.get(f'{split}_dataloader') or {}).get('dataset') or {}


def _kinds(config: Config, dataset: ConfigDict) -> set[str]:
    """The names of a data set's class and of those that it derives from."""
    kind = dataset.get('type')
    if not isinstance(kind, type):
        with DATASETS.switch_scope_and_registry(config.get('default_scope')) as datasets:
            kind = datasets.get(kind)
    return {base.__name__ for base in getattr(kind, '__mro__', ())}


def _format_of(lazy: Any, kinds: Set[str]) -> str:
    if 'CustomDataset' in kinds:
        form = 'list' if lazy.ann_file else 'folders'
        return form if lazy.with_label else 'none'
    if 'CocoDataset' in kinds:
        return 'coco'
    if 'DOTADataset' in kinds:
        return 'dota' if lazy.ann_file else 'none'
    return 'masks'


def config_problems(config: Config, *splits: str) -> Iterator[Located]:
    """Names of classes that cannot be, data sets that number classes in different ways, and
    evaluators for other data than that of their loader.

    Args:
        config: A full config. Data sets of all splits are compared, where they are on disk.
        *splits: Those whose faults count.
    """
    if is_checked(config, 'classes'):
        yield from _named_problems(config, splits)
    if is_checked(config, 'data'):
        for split in splits:
            yield from _evaluator_problems(config, split)


def _named_problems(config: Config, splits: Sequence[str]) -> Iterator[Located]:
    datasets = {
        f'{split}_dataloader' + f' (data set {index + 1})' * bool(index): dataset
        for split in _SPLITS
        for index, dataset in enumerate(leaves(_dataset(config, split)))
    }
    faults = {name: list(name_problems(_named_classes(d))) for name, d in datasets.items()}
    sound = {name: d for name, d in datasets.items() if not faults[name]}
    known = {name: found for name, d in sound.items() if (found := _find_classes(config, d))}
    names = {name: (place, classes) for name, (place, classes, _) in known.items()}
    # Folders that are numbered must be the same ones, whatever the config calls them.
    folders = {
        name: (place, numbered)
        for name, (_, classes, numbered) in known.items()
        if numbered and numbered != classes
        for place in [f'the folders of {name}']
    }
    located = [(name, problem) for name, problems in faults.items() for problem in problems]
    if not _takes_words(config.get('model', {})):
        located += [*split_problems(names), *split_problems(folders)]
    for name, problem in located:
        if name.startswith(tuple(f'{split}_' for split in splits)):
            yield name, problem


def _named_classes(dataset: ConfigDict) -> Any:
    return dataset.get('classes', (dataset.get('metainfo') or {}).get('classes'))


def _find_classes(
    config: Config, dataset: ConfigDict
) -> tuple[str, list[str], list[str] | None] | None:
    """Where the classes of a data set come from, their names, and folders that it numbers; None
    if nothing says."""
    try:
        lazy = DATASETS.build({**dataset, 'lazy_init': True, 'pipeline': []})
        classes = lazy.metainfo.get('classes')
        by_name = 'ImageFolder' in _kinds(config, dataset)
        folders = None
        if getattr(lazy, 'with_label', False) and not lazy.ann_file and not by_name:
            folders = class_folders(lazy.img_prefix, hidden=True)
    except Exception:  # data sets raise anything; what is wrong with those of a split is said later
        return None
    place = 'from its `metainfo` or its type'
    if folders is not None and classes is None:
        place, classes = f'folders of {lazy.img_prefix}', folders
    elif by_name and not _named_classes(dataset):
        place = f'folders of {dataset.get("classes_from") or lazy.img_prefix}'
    return None if classes is None else (place, list(classes), folders)


def _metrics(config: Config, split: str) -> Iterator[ConfigDict]:
    """The metrics of an evaluator: a dict, a list of them, or an evaluator that holds them."""
    chosen = config.get(f'{split}_evaluator') or []
    for metric in chosen if isinstance(chosen, list | tuple) else [chosen]:
        inner = metric.get('metrics') or [metric]
        yield from inner if isinstance(inner, list | tuple) else [inner]


def _coco_metrics(config: Config, split: str) -> list[ConfigDict]:
    """The metrics that read a COCO file."""
    return [
        metric
        for metric in (_metrics(config, split) if split != 'train' else ())
        if metric.get('ann_file') and not metric.get('format_only')
    ]


def _needs_outlines(config: Config, split: str, dataset: ConfigDict) -> bool:
    if split != 'train':
        return any(
            'segm' in metric.get('metric', 'bbox') for metric in _coco_metrics(config, split)
        )
    return any(step.get('with_mask') for step in dataset.get('pipeline') or [])


def _evaluator_problems(config: Config, split: str) -> Iterator[Located]:
    """Metrics that read another annotation file than the data loader of their split."""
    datasets = list(leaves(_dataset(config, split)))
    if split == 'train' or len(datasets) != 1 or not datasets[0].get('ann_file'):
        return
    dataset = datasets[0]
    loaded = Path(dataset.get('data_root') or '', dataset.ann_file)
    for metric in _metrics(config, split):
        name, file = f'{split}_evaluator', metric.get('ann_file')
        if not isinstance(file, str) or '://' in f'{file}{dataset.get("data_root")}':
            continue
        remedy = f'Set {name}.ann_file={loaded}.'
        if not Path(file).is_file():
            detail = f'reads {file}, which does not exist; {split}_dataloader reads {loaded}.'
            yield name, Problem('evaluator', f'{detail} {remedy}')
        elif loaded.is_file() and not loaded.samefile(file):
            yield from ((name, problem) for problem in _compare_files(file, loaded, remedy))
        if dataset.get('indices') is not None:
            detail = (
                f'counts all images of {file}, but {split}_dataloader loads some of them '
                '(`indices`); the others would count as missed. Write a smaller annotation file.'
            )
            yield name, Problem('evaluator', detail)


def _compare_files(evaluated: str, loaded: Path, remedy: str) -> Iterator[Problem]:
    try:
        contents = [read_coco(evaluated), read_coco(loaded)]
        images = [{image['id']: image['file_name'] for image in c['images']} for c in contents]
    except (UserError, TypeError, KeyError):
        # Of another format, or incomplete, which is said later.
        contents, images = [], [{0: evaluated}, {0: str(loaded)}]
    if images[0] != images[1]:
        yield Problem(
            'evaluator',
            f'evaluates with {evaluated} ({len(images[0]):,} images), but the data loader reads '
            f'{loaded} ({len(images[1]):,} images). {remedy}',
        )
        return
    categories = [[(c.get('id'), c.get('name')) for c in part['categories']] for part in contents]
    objects = [
        Counter(
            str([o.get(key) for key in ('image_id', 'category_id', 'bbox')])
            for o in part['annotations']
        )
        for part in contents
    ]
    if categories[0] != categories[1]:
        yield Problem(
            'evaluator',
            f'evaluates with {evaluated}, whose categories differ from those of {loaded}, which '
            f'the data loader reads. {remedy}',
        )
    elif objects[0] != objects[1]:
        here, there = objects
        differing = max((here - there).total(), (there - here).total())
        yield Problem(
            'evaluator_objects',
            f'evaluates with {evaluated}, and {differing:,} of its objects differ from those of '
            f'{loaded}, which the data loader reads. Unless that is intended: {remedy}',
        )


#: Parts with classes of their own: objects of any class, and stuff beside the data's things.
_OTHER_CLASSES = ('rpn_head', 'semantic_head')
#: The parts that predict the classes of the data, as paths without the positions in lists.
_MAIN_HEADS = re.compile(
    r'model\.(head|bbox_head\w*|mask_head|decode_head|fam_head|odm_head'
    r'|roi_head\.(bbox_head|mask_head))(\.\d+)?'
)


def _heads(model: Any, name: str = 'model') -> Iterator[tuple[str, int]]:
    """Paths of the parts of a model that are for a number of classes, and that number."""
    for key, value in model.items() if isinstance(model, dict) else enumerate(model):
        if not isinstance(value, dict | list | tuple) or key in _OTHER_CLASSES:
            continue
        if isinstance(value, dict) and isinstance(value.get('num_classes'), int):
            yield f'{name}.{key}', value['num_classes']
        yield from _heads(value, f'{name}.{key}')


def _takes_words(model: Any) -> bool:
    """Whether a model reads the names of classes, so that its data sets may differ in them."""
    return any('text' in key or 'language' in key for key in model)


def head_problems(model: Any, classes: Sequence[str], advice: str = '') -> Iterator[Located]:
    """Parts of a model for another number of classes than the data has.

    An error where a main head would meet labels that it has no output for, or a detector or
    segmentor predict classes without a name; a warning elsewhere.

    Args:
        model: Config of the model.
        classes: Of the data.
        advice: What to do. Default: '', change the head or the classes.
    """
    if _takes_words(model):
        return
    # With stuff beside things, a head for boxes is for some of the classes.
    has_stuff = any(key in model for key in ('semantic_head', 'panoptic_fusion_head'))
    for path, number in _heads(model):
        if number == len(classes):
            continue
        is_main = _MAIN_HEADS.fullmatch(path) is not None
        is_spare = number > len(classes) and path == 'model.head' and not advice
        is_binary = number == 1 and len(classes) == 2  # one output, above or below a threshold
        detail = f'is for {number} classes, but the data has {len(classes)} ({listing(classes)}). '
        remedy = advice or (
            f'Set {path}.num_classes={len(classes)}, or the classes in the `metainfo` of the data '
            'sets.'
        )
        sure = is_main and not (is_spare or is_binary or has_stuff)
        yield path, Problem('classes' if sure else 'other_classes', detail + remedy)


def _advice(split: str, dataset: ConfigDict, source: Source) -> str:
    """What to do about a head where nobody has named the classes; '' where the data do."""
    if source.format == 'folders' and split != 'train' and not source.by_name:
        return (
            f'{split}_dataloader takes the classes from its own folders, in '
            f'{source.lazy.img_prefix}. Name the classes of training: '
            "type='edgenext_mm.ImageFolder' with `classes_from='FOLDER'` or with "
            '`metainfo=dict(classes=(...))`.'
        )
    if source.format != 'folders' and _named_classes(dataset) is None:
        return (
            f'These are the classes of {type(source.lazy).__name__}. {HOW_TO_NAME_CLASSES} If '
            f'they are those of the data, set the `num_classes` of the head to '
            f'{len(source.classes or ())}.'
        )
    return ''

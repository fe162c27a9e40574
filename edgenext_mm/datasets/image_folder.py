"""A data set with one folder of images per class, and one list of classes for all splits."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmpretrain.datasets import CustomDataset
from mmpretrain.datasets.custom import get_samples

from ..errors import UserError
from ..registry import DATASETS
from ..runtime.sources import IMAGE_EXTENSIONS
from .checks.folders import class_folders, named_folder_problems
from .checks.image_files import is_hidden


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """mmpretrain's ``CustomDataset`` that finds the class of a folder by its name.

    ``CustomDataset`` numbers the folders of each split separately: if validation lacks a folder of
    training, the labels of the folders after it differ. Here all splits take their classes from
    one place, so that a split may lack a class. Hidden folders and files, such as
    ``.ipynb_checkpoints`` and ``._a.jpg``, are ignored.

    Args:
        data_root: Folder that the other paths are relative to. Default: ''.
        data_prefix: Folder that contains the class folders. Default: ''.
        classes_from: Folder whose folders name the classes in alphabetical order, unless
            ``metainfo`` or ``classes`` does. Default: None, ``data_prefix``.
        metainfo: A dict; its ``classes`` are the names of the folders in the order of their labels.
            Default: None.
        classes: The same names, or the path of a file with one name per line. Default: None.
        extensions: Extensions of the images. Default: those that inference reads in folders.
        lazy_init: Whether to list the images later. Default: False.
        **kwargs: Other arguments of ``CustomDataset``.

    Raises:
        UserError: If a folder is not a class, or ``classes_from`` does not exist.
    """

    def __init__(
        self,
        data_root: str = '',
        data_prefix: str | Mapping[str, str] = '',
        classes_from: str | None = None,
        metainfo: Mapping[str, Any] | None = None,
        classes: str | Sequence[str] | None = None,
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        self.classes_from = classes_from
        if classes is None and 'classes' not in (metainfo or {}) and not kwargs.get('ann_file'):
            own = data_prefix if isinstance(data_prefix, str) else data_prefix['img_path']
            source = os.path.join(data_root, own if classes_from is None else classes_from)
            if not os.path.isdir(source):
                raise UserError(
                    f'The folder {source}, whose folders name the classes, does not exist. Set '
                    '`classes_from` of the data set to the folder of training, or name the '
                    'classes with `metainfo=dict(classes=(...))`.'
                )
            classes = class_folders(source)
        super().__init__(
            data_root=data_root,
            data_prefix=data_prefix,
            metainfo=metainfo,
            classes=classes,
            extensions=tuple(extensions),
            lazy_init=lazy_init,
            **kwargs,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Lists the paths of the images, and their labels: the indices of their folders in the
        classes.

        Raises:
            UserError: If a folder is not a class, or there is no image.
        """
        if self.ann_file or not self.with_label:
            return super().load_data_list()
        for problem in named_folder_problems(self.img_prefix, self.CLASSES):
            raise UserError(str(problem))
        labels = {name: self.CLASSES.index(name) for name in class_folders(self.img_prefix)}
        samples, _ = get_samples(self.img_prefix, labels, self.is_valid_file)
        if not samples:
            raise UserError(
                f'The folders in {self.img_prefix} contain no image with one of the extensions '
                f'{", ".join(sorted(self.extensions))}.'
            )
        return [
            dict(img_path=os.path.join(self.img_prefix, path), gt_label=label)
            for path, label in samples
        ]

    def is_valid_file(self, filename: str) -> bool:
        """Whether a path below a class folder is an image and not hidden."""
        return super().is_valid_file(filename) and not is_hidden(filename)

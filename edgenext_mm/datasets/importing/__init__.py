"""Import of annotated images: from the formats of annotation tools to the layout of the configs.

Each format is read into :mod:`.records` by a module of :mod:`.readers`; :mod:`.recognition` chooses
it. :mod:`.measuring` and :mod:`.cleaning` check the result, :mod:`.splitting` splits it and
:mod:`.writing` writes it; :mod:`.importer` calls them in this order.

The formats are parsed with the standard library, PyYAML, Pillow and pycocotools. Tried in their
place: datumaro (with the pinned versions, pip finds only release 0.5.0 of 2023, with h5py, nibabel
and lxml among its dependencies), supervision (needs PyAV; reads YOLO, COCO and VOC, without crowds,
flags and reports of what is left out), globox (pins rich and reads upright boxes only).
"""

from .importer import Summary, import_data

__all__ = ['Summary', 'import_data']

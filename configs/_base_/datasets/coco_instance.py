# COCO 2017 with boxes, masks and mmdet's usual pipelines (short side 800); two images per GPU.
_base_ = ['mmdet::_base_/datasets/coco_instance.py', 'coco_preparation.py']

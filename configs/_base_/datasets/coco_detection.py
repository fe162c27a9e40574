# COCO 2017 with boxes and mmdet's usual pipelines (short side 800); two images per GPU.
_base_ = ['mmdet::_base_/datasets/coco_detection.py', 'coco_preparation.py']

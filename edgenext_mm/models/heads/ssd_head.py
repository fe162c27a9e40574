"""SSD head of mmdet, with prediction fixed."""

from mmdet.models import SSDHead as _SSDHead

from ...registry import MODELS


@MODELS.register_module()
class SSDHead(_SSDHead):
    """mmdet's ``SSDHead``, which can be trained in mmdet 3.5 but fails in prediction.

    ``BaseDenseHead`` reads the attribute ``loss_cls`` in prediction, but ``SSDHead`` does not set
    it: https://github.com/open-mmlab/mmdetection/issues/11780.
    """

    loss_cls = None

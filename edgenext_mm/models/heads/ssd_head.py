"""mmdet's SSD head, able to predict."""

from mmdet.models import SSDHead as _SSDHead

from ...registry import MODELS


@MODELS.register_module()
class SSDHead(_SSDHead):
    """mmdet's ``SSDHead``, which in mmdet 3.5 trains but fails to predict.

    ``BaseDenseHead`` asks the head's ``loss_cls`` whether it has classes of its own to activate;
    ``SSDHead`` computes its losses without such a module and never sets the attribute:
    https://github.com/open-mmlab/mmdetection/issues/11780.
    """

    loss_cls = None

"""A local visualization backend that survives a full disk."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend

from ..registry import VISBACKENDS


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's ``LocalVisBackend``, which logs an error if values cannot be written."""

    def add_scalars(self, *args: Any, **kwargs: Any) -> None:
        """Writes values to ``scalars.json``.

        Args:
            *args: The arguments of mmengine's method.
            **kwargs: The arguments of mmengine's method.
        """
        try:
            super().add_scalars(*args, **kwargs)
        except OSError as error:
            MMLogger.get_current_instance().error(f'Could not write logged values: {error}')

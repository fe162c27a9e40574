"""Logged values in local files, on a disk that may be full."""

from __future__ import annotations

from typing import Any

from mmengine.logging import MMLogger
from mmengine.visualization import LocalVisBackend as MMEngineLocalVisBackend

from ..registry import VISBACKENDS


@VISBACKENDS.register_module()
class LocalVisBackend(MMEngineLocalVisBackend):
    """mmengine's ``LocalVisBackend``. Where logged values cannot be written, as on a full disk, the
    training continues without them and says so."""

    def add_scalars(self, *args: Any, **kwargs: Any) -> None:
        """Writes values."""
        try:
            super().add_scalars(*args, **kwargs)
        except OSError as error:
            MMLogger.get_current_instance().error(f'Logged figures are lost: {error}.')

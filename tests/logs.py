import logging
from contextlib import contextmanager

from mmengine.logging import MMLogger


@contextmanager
def logged():
    """The messages of the current logger."""
    lines, handler = [], logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)

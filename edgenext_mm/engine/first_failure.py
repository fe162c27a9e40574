"""Makes torchrun report the process that failed first."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler, record

#: What gloo, NCCL and torch's store report when the process at the other end has ended. The
#: messages of gloo are tested; those of NCCL are taken from its source.
_LOST_CONNECTION = re.compile(
    r'Connection (closed by peer|reset by peer|was likely closed)|Broken pipe'
    r'|ncclRemoteError|remote process exit|NCCL communicator was aborted'
)
#: Seconds added to the time of a lost connection. torchrun needs up to 30 s to end all processes.
_DELAY = 90
_EXPLANATION = (
    'This process lost its connection to another one, which has probably ended: by an error, or '
    'because it was killed (out of memory, for example). Look for the error of that process.'
)


def is_lost_connection(error: BaseException) -> bool:
    """Returns whether an error only says that another process of the training has ended."""
    return isinstance(error, RuntimeError) and bool(_LOST_CONNECTION.search(str(error)))


class _FirstFailure(ErrorHandler):
    """Gives errors of lost connections a later time.

    torchrun reports the earliest error as the root cause. A process that is killed records none, so
    torchrun takes the time at which it notices. The processes that lost their connection to it may
    have recorded an earlier one, although they are never the cause.
    """

    def record_exception(self, e: BaseException) -> None:
        super().record_exception(e)
        if not is_lost_connection(e):
            return
        print(_EXPLANATION, file=sys.stderr, flush=True)
        path = Path(os.environ.get('TORCHELASTIC_ERROR_FILE', ''))
        if not path.is_file():  # not started by torchrun
            return
        content = json.loads(path.read_text())
        details = content['message']['extraInfo']
        details['timestamp'] = str(int(details['timestamp']) + _DELAY)
        details['py_callstack'] += f'{_EXPLANATION} (The time of this error is {_DELAY} s late.)'
        path.write_text(json.dumps(content))


def recorded(main: Callable[[], None]) -> Callable[[], None]:
    """Decorates the main function of a tool like ``torch.distributed``'s ``record``.

    Args:
        main: The function whose errors torchrun should report.
    """
    return record(main, error_handler=_FirstFailure())

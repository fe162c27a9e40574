"""What torchrun reports as the first failure when one of several processes ends."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ErrorHandler, record

#: What gloo, NCCL and torch's store say when the process at the other end is gone. Messages of gloo
#: are tested; those of NCCL have not been seen here.
LOST_CONNECTION = re.compile(
    r'Connection (closed by peer|reset by peer|was likely closed)|Broken pipe'
    r'|ncclRemoteError|remote process exit|NCCL communicator was aborted'
)
#: By how many seconds an error of a lost connection is dated later: longer than torchrun takes to
#: look at its processes, and to end those that remain (30 s).
_DELAY = 90
EXPLANATION = (
    'This process lost its connection to another one, which has probably ended: by an error of its '
    'own, or killed (out of memory, for instance). Look for the error of that process.'
)


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error only says that another process of the training is gone."""
    return isinstance(error, RuntimeError) and bool(LOST_CONNECTION.search(str(error)))


class _FirstFailure(ErrorHandler):
    """Records errors for torchrun, which reports the earliest one as the root cause.

    A process that is killed records nothing: torchrun dates its end when it looks at its processes.
    The error of another process, whose connection breaks at that moment, can be earlier. It is
    dated later here, because it is never the cause.
    """

    def record_exception(self, e: BaseException) -> None:
        super().record_exception(e)
        if not is_lost_connection(e):
            return
        print(EXPLANATION, file=sys.stderr, flush=True)
        path = Path(os.environ.get('TORCHELASTIC_ERROR_FILE', ''))
        if not path.is_file():  # not started by torchrun
            return
        content = json.loads(path.read_text())
        details = content['message']['extraInfo']
        details['timestamp'] = str(int(details['timestamp']) + _DELAY)
        details['py_callstack'] += (
            f'{EXPLANATION} (Its time is set {_DELAY} s late, so that torchrun reports the other '
            'process as the root cause.)'
        )
        path.write_text(json.dumps(content))


def recorded(main: Callable[[], None]) -> Callable[[], None]:
    """torch's ``record`` for the main function of a tool; see :class:`_FirstFailure`."""
    return record(main, error_handler=_FirstFailure())

"""Models in processes of their own, so that none finds the memory and threads of another."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from edgenext_mm.errors import UserError

from .latency import Call

T = TypeVar('T')

#: What all need is imported once, where processes can be forked from one that has done so. Not
#: benchmarks.speed itself, which each runs anew as its main module.
_PRELOAD = ['benchmarks.runtimes', 'benchmarks.figures', 'edgenext_mm.apis.complexity']


class Worker:
    """A process that has a call ready, for as long as this is open.

    Args:
        build: Makes the call, in the process; can be pickled.
        name: What errors call it.

    Raises:
        UserError: If ``build`` does, or the process dies.
    """

    def __init__(self, build: Callable[[], Call], name: str) -> None:
        context = _context()
        self.name = name
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, build))
        self._process.start()
        theirs.close()
        self._receive()

    def ask(self, function: Callable[[Call], T]) -> T:
        """What a function gives for the call, in the process.

        Raises:
            UserError: If the process dies.
        """
        with suppress(ConnectionError):  # if it has died, that shows in what comes back
            self._connection.send(function)
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join()

    def _receive(self) -> Any:
        try:
            result = self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise UserError(
                f'{self.name}: its process ended with status {self._process.exitcode}.'
            ) from None
        if isinstance(result, Exception):
            raise result
        return result


def _context() -> Any:
    if 'forkserver' not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context('spawn')
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload(_PRELOAD)
    return context


def _serve(connection: Connection, build: Callable[[], Call]) -> None:
    try:
        call = build()
    except Exception as error:
        connection.send(error)
        return
    connection.send(None)
    while True:
        try:
            function = connection.recv()
        except EOFError:
            return
        connection.send(function(call))

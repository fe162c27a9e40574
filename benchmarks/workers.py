"""Runs models in separate processes, so that they share neither memory nor threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from edgenext_mm.errors import UserError

from .latency import Call

T = TypeVar('T')

#: Imported once by the process from which workers are forked. Not benchmarks.speed itself, which
#: each worker runs again as its main module.
_PRELOAD = ['benchmarks.runtimes', 'benchmarks.figures', 'edgenext_mm.apis.complexity']


class Worker:
    """A process that holds a call until it is closed.

    Args:
        build: Builds the call in the process. It must be picklable.
        name: The name of the worker in errors.

    Raises:
        UserError: If ``build`` raises one, or the process dies.
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
        """Applies a function to the call in the process and returns the result.

        Args:
            function: A picklable function.

        Raises:
            UserError: If the process dies.
        """
        with suppress(ConnectionError):  # _receive reports a dead process
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

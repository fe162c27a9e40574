"""Calls in separate processes."""

import os
from contextlib import closing
from functools import partial

import pytest

from benchmarks.workers import Worker
from edgenext_mm.errors import UserError


def run(call):
    return call()


def process_id():
    return os.getpid


def refuses():
    raise UserError('no such model')


def dies():
    os._exit(7)


def test_calls_run_in_separate_processes():
    with closing(Worker(process_id, 'a')) as a, closing(Worker(process_id, 'b')) as b:
        assert len({a.ask(run), b.ask(run), os.getpid()}) == 3
        assert a.ask(run) == a.ask(run)


def test_user_errors_are_raised_in_the_main_process():
    with pytest.raises(UserError, match='no such model'):
        Worker(refuses, 'a')


def test_a_process_that_dies_is_named():
    with pytest.raises(UserError, match='openvino small: its process ended with status 7'):
        Worker(dies, 'openvino small')
    message = 'small: its process ended with status 7'
    with (
        closing(Worker(partial(partial, dies), 'small')) as w,
        pytest.raises(UserError, match=message),
    ):
        w.ask(run)

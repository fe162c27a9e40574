"""Runs tools without the seconds that a new process needs to import everything."""

import contextlib
import io
import runpy
from typing import NamedTuple

import pytest
from paths import ROOT


class Result(NamedTuple):
    """What a tool printed, and the message with which it exits; empty if it succeeds."""

    stdout: str
    error: str


def run_in_process(tool, *args):
    """Runs a tool in this process."""
    stdout, error = io.StringIO(), ''
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(stdout):
        patch.setattr('sys.argv', [tool, *map(str, args)])
        patch.setenv('LOCAL_RANK', '0')
        try:
            runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
        except SystemExit as ended:
            error = str(ended.code or '')
    return Result(stdout.getvalue(), error)

"""Runs tools in this process, which saves the imports, or in several processes."""

import contextlib
import io
import os
import runpy
import subprocess
import sys
from typing import NamedTuple

import pytest
from paths import ROOT, free_port


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


def distributed_environment(**more):
    """Returns the environment of the launch scripts for processes on the CPU."""
    common = dict(PYTHON=sys.executable, PORT=free_port(), CUDA_VISIBLE_DEVICES='')
    return {**os.environ, 'OMP_NUM_THREADS': '1', **common, **more}


def run_distributed(script, *args, **environment):
    """Runs a launch script to its end and returns its stderr."""
    done = subprocess.run(
        ['bash', ROOT / 'tools' / script, *args],
        env=distributed_environment(**environment),
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stderr

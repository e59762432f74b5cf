"""Killed commands; `python -m anomaly.kill` tries a hundred of each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_killed_commands_continue_to_the_same_result():
    pytest.importorskip("av")
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join([str(tests), *filter(None, sys.path)])
    # A process of its own, which forks before it has threads.
    done = subprocess.run(
        [sys.executable, "-m", "anomaly.kill", "--count", "2"],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4

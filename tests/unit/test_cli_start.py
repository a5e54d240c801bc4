"""The first moments of the process, before any command runs."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HUNG_UP_WHILE_LOADING = """
import os, signal, sys, types
from consumers.cli.__main__ import main
def hang_up():
    os.kill(os.getpid(), signal.SIGHUP)
    return 7
sys.modules["consumers.cli.main"] = types.SimpleNamespace(main=hang_up)
sys.exit(main())
"""


@pytest.mark.parametrize(("command", "code"), [("serve", 7), ("tail", -signal.SIGHUP)])
def test_a_reload_that_comes_before_serve_has_read_anything_does_not_end_it(command: str, code: int) -> None:
    arguments = [sys.executable, "-c", HUNG_UP_WHILE_LOADING, command]
    assert subprocess.run(arguments, check=False).returncode == code

"""The command as a process that ends with the tests, sound or with a bug planted: ``python -m tests.chaos.worker``.

``VIP_ROUTER_CHAOS_PLANT`` names the bug; without it the command is what users run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import ExitStack

from consumers.cli.main import main
from tests.chaos.planted import PLANTS

PLANT = "VIP_ROUTER_CHAOS_PLANT"
PR_SET_PDEATHSIG = 1


def run() -> None:
    """Be ``vip-router``, until the parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with ExitStack() as stack:
        if os.environ.get(PLANT):
            stack.enter_context(PLANTS[os.environ[PLANT]]())
        sys.exit(main())


if __name__ == "__main__":
    run()

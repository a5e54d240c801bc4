"""``vip-router``, and ``python -m consumers.cli``, which is the same: where the process begins."""

from __future__ import annotations

import signal
import sys


def main() -> int:
    """Run the command of ``sys.argv``; returns its exit code.

    ``serve`` takes SIGHUP for "read the policy again" from its first moment on: what comes before it has read any, and
    while the program is still being loaded, must not end it.
    """
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from consumers.cli.main import main as run  # noqa: PLC0415  # takes most of the time that a start takes

    return run()


if __name__ == "__main__":
    sys.exit(main())

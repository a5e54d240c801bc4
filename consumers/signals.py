"""What the process does on SIGTERM, Ctrl-C and SIGHUP: a handler sets an event of the loop, and nothing else."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopping_on_signals(
    stop: asyncio.Event, *, reload: asyncio.Event | None = None, tell: Callable[[str], None] | None = None
) -> Iterator[None]:
    """While entered, SIGTERM and SIGINT set ``stop`` and SIGHUP sets ``reload``; ``tell`` gets words for a person.

    A second Ctrl-C ends the process at once, as if nobody had caught it: whatever was acknowledged is durable, and a
    start afterwards goes on from there. A second SIGTERM changes nothing: supervisors repeat theirs.
    """
    loop = asyncio.get_running_loop()

    def on_interrupt() -> None:
        stop.set()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if tell is not None:
            tell("finishing what is under way; Ctrl-C again ends it at once")

    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, on_interrupt)
    handled = [signal.SIGTERM, signal.SIGINT]
    if reload is not None:
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        handled.append(signal.SIGHUP)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)

"""An event loop whose time is a number: it jumps to the next timer when nothing is ready, and never waits.

Nothing here knows of the system under test. There are no threads and no sockets, so that a run is a pure function of
its seed. A run in which nobody can ever go on, or in which everybody is busy without time passing, ends with an error
that says where the tasks stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, Final, TypeVar

SPINS_MAX: Final = 200_000  #: rounds of the loop without time passing; more means that something spins

T = TypeVar("T")
TaskFactory = Callable[[asyncio.AbstractEventLoop, Coroutine[Any, Any, Any], Context | None], "asyncio.Task[Any]"]


class DeadlockError(Exception):
    """Nothing is ready and no timer runs, but the main task is not done."""


class LivelockError(Exception):
    """Something is always ready, and time does not pass."""


class VirtualLoop(asyncio.BaseEventLoop):
    """asyncio with virtual time, seconds from 0. It is its own selector: there is nothing to select from."""

    def __init__(self) -> None:
        super().__init__()
        self._clock_resolution = 1e-6  # a timer fires although adding floats has left it a hair away
        self._selector = self
        self._now_s = 0.0
        self._spins = 0
        self.set_exception_handler(lambda _loop, _context: None)  # what nobody asks for belongs to a crashed process

    def time(self) -> float:
        """The virtual time, seconds."""
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """What ``BaseEventLoop`` calls when it has run all that was ready: let time pass."""
        if timeout is None:
            raise DeadlockError(f"at {self._now_s:.3f} s nobody can go on:\n{describe_tasks(self)}")
        if timeout > 0:
            self._now_s += timeout
            self._spins = 0
            return []
        self._spins += 1
        if self._spins > SPINS_MAX:
            raise LivelockError(f"at {self._now_s:.3f} s time stands still:\n{describe_tasks(self)}")
        return []

    def end_tasks(self) -> None:
        """Cancel what is left and let it come to its end."""
        left = asyncio.all_tasks(self)
        for task in left:
            task.cancel()
        self._spins = 0
        if left:
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    def _process_events(self, event_list: list[Any]) -> None:
        assert not event_list

    def _write_to_self(self) -> None:
        """There is no other thread to wake the loop from."""


def describe_tasks(loop: asyncio.AbstractEventLoop) -> str:
    """Where each task that is not done stands, a line each: from its outermost function to the innermost."""
    lines = []
    for task in asyncio.all_tasks(loop):
        places = []
        coro: Any = task.get_coro()
        while (frame := getattr(coro, "cr_frame", None)) is not None:
            places.append(f"{frame.f_code.co_name}:{frame.f_lineno}")
            coro = coro.cr_await
        lines.append(f"  {task.get_name()}: {' > '.join(places)}")
    return "\n".join(sorted(lines))


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` to its end in a loop of its own; tasks that it leaves behind are cancelled."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(main)
    finally:
        try:
            loop.end_tasks()
        finally:
            loop.close()

"""One simulated process: a real lane on a log port of its own, with a clock and policies of its own.

A crash ends all its tasks at once; whatever they had not finished never happens, and their cleaning up finds the port
dead. A write that has left the process may still take effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

from consumers.lane import Lane
from consumers.lane_spec import LaneSpec
from consumers.policy_book import PolicyBook
from events.log import IndefiniteError, LogUnavailableError, Reader, TopicPartition
from tests.simulation import setting
from tests.simulation.faulty_log import DiedError, FaultyLog
from tests.simulation.observer import Observer

PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
EXPECTED_ENDS = (LogUnavailableError, IndefiniteError, DiedError, asyncio.CancelledError)


class ObservedLane(Lane):
    """The real lane; each time that it has taken over, the observer compares what it restored with the log."""

    observer: Observer

    async def _work(self, reader: Reader, stop: asyncio.Event, publishing: asyncio.Task[None]) -> bool:
        self.observer.restored(self)
        return await super()._work(reader, stop, publishing)


class Process:
    """A lane's process. ``skew_ms`` is how far its clock is off."""

    def __init__(
        self, port: FaultyLog, observer: Observer, spec: LaneSpec, partition: int, book: PolicyBook, *, skew_ms: int
    ) -> None:
        self.port = port
        self.place = TopicPartition(spec.log_topic, partition)
        self.book = book
        self.skew_ms = skew_ms
        self.observer = observer
        self.tasks: list[asyncio.Task[Any]] = []
        self.stop = asyncio.Event()
        port.on_death = self._end_tasks
        self.lane = ObservedLane(port, spec, partition, book, clock=self.clock_ms, limits=setting.LIMITS)
        self.lane.observer = observer
        self._main: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """Unique in a run."""
        return self.port.name

    @property
    def is_running(self) -> bool:
        """Whether it lives and works."""
        return self.port.alive and self._main is not None and not self._main.done()

    def clock_ms(self) -> int:
        """What this machine believes the time to be."""
        return self.port.broker.clock_ms() + self.skew_ms

    def start(self) -> None:
        """Begin to work, in a context that marks all its tasks as belonging to this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        loop = asyncio.get_running_loop()
        self._main = loop.create_task(self.lane.run(self.stop), context=context, name=self.name)

    async def stopped(self) -> None:
        """Ask for a clean stop and wait for it."""
        self.stop.set()
        assert self._main is not None
        await asyncio.wait({self._main})

    async def crashed(self) -> None:
        """Die now."""
        self.port.die()
        await asyncio.wait(self.tasks)

    def fault_of_ours(self) -> BaseException | None:
        """What ended the lane although nothing was wrong with the log; None: nothing."""
        if self._main is None or not self._main.done() or self._main.cancelled():
            return None
        error = self._main.exception()
        return None if error is None or isinstance(error, EXPECTED_ENDS) else error

    def _end_tasks(self) -> None:
        for task in self.tasks:
            task.cancel()


def track_tasks(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """A task factory that notes which process a task belongs to. ``options``: a newer Python's loop gives more."""
    task = asyncio.Task(coro, loop=loop, **options)
    context: Context | None = options.get("context")
    owner = PROCESS.get() if context is None else context.get(PROCESS)
    if owner is not None:
        owner.tasks.append(task)
    return task

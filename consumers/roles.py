"""The roles of one process: for each, a worker for every partition that this process owns now.

Who owns what is the log's business (``events/ownership.py``); running all roles together is ``serve.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from consumers.committing import Committing
from consumers.lane import Lane
from events.open_log import OwnedLog
from events.ownership import Waiting

HAND_OVER_MAX_S: Final = 10.0  #: what a worker gets to finish; its successor does what it could not

logger = logging.getLogger(__name__)


class Worker(Protocol):
    """Works on one partition."""

    @property
    def is_ready(self) -> bool:
        """Whether it has taken over and reads."""

    def is_idle(self) -> bool:
        """Whether there is nothing left to do but to wait."""

    async def is_caught_up(self) -> bool:
        """Whether everything that there is to do now was done; asks the log."""

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``, then finish. Ended earlier, it leaves nothing that a successor could not go on from."""


@dataclass(frozen=True, slots=True)
class _Running:
    worker: Worker
    stop: asyncio.Event
    task: asyncio.Task[None]


class Role:
    """One role. ``make`` makes the worker of a partition."""

    def __init__(self, name: str, partitions: int, make: Callable[[int], Worker]) -> None:
        self.name = name
        self.is_owned = False  #: it works on some partition
        self.is_standby = False  #: it works on none, because others do
        self.error: str | None = None  #: the kind of error that ended it
        self._is_settled = False  #: its share of the partitions is known, were it none
        self._partitions = partitions
        self._make = make
        self._running: dict[int, _Running] = {}
        self._done: Counter[str] = Counter()  #: by lanes that have ended
        self._group: asyncio.TaskGroup | None = None
        self._committing: Committing | None = None

    @property
    def workers(self) -> Sequence[Worker]:
        """Those of the partitions that are owned now."""
        return [running.worker for running in self._running.values()]

    @property
    def lanes(self) -> Sequence[Lane]:
        """The workers that are lanes."""
        return [worker for worker in self.workers if isinstance(worker, Lane)]

    @property
    def partitions(self) -> Sequence[int]:
        """Those that are owned now."""
        return sorted(self._running)

    @property
    def reads(self) -> Mapping[int, bool]:
        """For each partition that is owned now, whether it was taken over and is read."""
        return {number: running.worker.is_ready for number, running in self._running.items()}

    def is_ready(self) -> bool:
        """Whether it is known what this process owns, and all of that reads."""
        return self._is_settled and all(worker.is_ready for worker in self.workers)

    def is_idle(self) -> bool:
        """Whether no worker has anything left to do."""
        return self._is_settled and all(worker.is_idle() for worker in self.workers)

    async def is_caught_up(self) -> bool:
        """Whether every worker has done all that there is now."""
        return all([await worker.is_caught_up() for worker in self.workers])

    def count(self, what: str) -> int:
        """How often ``what`` was counted, by the lanes of now and of before."""
        return self._done[what] + sum(lane.counts[what] for lane in self.lanes)

    async def run(self, log: OwnedLog, stop: asyncio.Event, *, waiting: Callable[[], None]) -> None:
        """Own partitions and work on them until ``stop``; raises what ended a worker.

        ``waiting`` is called when somebody else has the whole role.
        """

        def stand_by() -> None:
            self.is_standby = True
            waiting()

        told: Waiting = stand_by
        self._committing = Committing(log, self.name)
        try:
            async with asyncio.TaskGroup() as self._group:
                committing = self._group.create_task(self._committing.often(lambda: self.lanes))
                await log.own(self.name, self._partitions, self._change, stop, waiting=told)
                committing.cancel()
        except BaseExceptionGroup as group:
            error = first_error(group)
            self.error = type(error).__name__
            raise error from None

    async def _change(self, owned: frozenset[int]) -> None:
        """Let go of what is no longer owned, begin with what is now; the others go on undisturbed."""
        await self._let_go([number for number in self._running if number not in owned])
        for number in sorted(owned.difference(self._running)):
            self._begin(number)
        self.is_owned, self.is_standby = bool(owned), not owned
        self._is_settled = True

    def _begin(self, number: int) -> None:
        assert self._group is not None
        worker, stop = self._make(number), asyncio.Event()
        self._running[number] = _Running(worker, stop, self._group.create_task(worker.run(stop)))

    async def _let_go(self, numbers: Iterable[int]) -> None:
        """Stop workers: those that cannot finish in time, because the log does not answer, are cut short."""
        leaving = {number: self._running[number] for number in numbers}
        for running in leaving.values():
            running.stop.set()
        if leaving:
            _, late = await asyncio.wait([running.task for running in leaving.values()], timeout=HAND_OVER_MAX_S)
            for task in late:
                task.cancel()
            if late:
                logger.warning("%s: %d partitions were left unfinished: the next owner goes on", self.name, len(late))
                await asyncio.wait(late)
        lanes = [running.worker for running in leaving.values() if isinstance(running.worker, Lane)]
        if self._committing is not None:
            await self._committing.commit(lanes)
            self._committing.forget(lanes)
        for number, running in leaving.items():
            if isinstance(running.worker, Lane):
                self._done.update(running.worker.counts)
            del self._running[number]


def first_error(error: BaseException) -> BaseException:
    """The first error inside groups: the others mostly follow from it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""Stores that the log contract is checked on: one factory for each adapter.

A ``Store`` is one store of records; ``open`` gives one more handle on it, as another owner or another process has it.
An adapter joins the suite by adding its factory to ``STORES``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from events.log import Log
from events.memory import MemoryLog
from events.sqlite import SqliteLog
from events.topics import partition_counts

COUNTS = partition_counts(contacts=4, workspaces=2)


@dataclass
class Clock:
    """A clock that stands until somebody moves it, Unix milliseconds."""

    now_ms: int = 1_780_000_000_000

    def __call__(self) -> int:
        return self.now_ms


class Store(Protocol):
    """What the checks need of an adapter."""

    clock: Clock  #: an adapter whose store has its own clock ignores it

    def open(self) -> AbstractAsyncContextManager[Log]: ...


@dataclass
class MemoryStore:
    """Every handle is the same object; it is closed with the last of them."""

    make: Callable[..., MemoryLog] = MemoryLog
    clock: Clock = field(default_factory=Clock)
    _log: MemoryLog | None = None
    _handles: int = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Log]:
        if self._log is None:
            self._log = self.make(cluster_id="memory", clock_ms=self.clock, topics=COUNTS)
        self._handles += 1
        try:
            yield self._log
        finally:
            self._handles -= 1
            if self._handles == 0:
                await self._log.close()


@dataclass
class SqliteStore:
    """Every handle has its own connections and threads: nothing but the file is shared."""

    path: Path
    clock: Clock = field(default_factory=Clock)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Log]:
        async with SqliteLog(self.path, create=COUNTS, clock_ms=self.clock) as log:
            yield log


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / "log.db"),
}

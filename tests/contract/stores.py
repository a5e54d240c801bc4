"""Stores that the log contract is checked on: one factory for each adapter.

A ``Store`` is one store of records; ``open`` gives one more handle on it, as another owner or another process has it.
An adapter joins the suite by adding its factory to ``STORES``.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from events.kafka.log import KafkaLog
from events.kafka.settings import kafka_settings
from events.log import Log
from events.memory import MemoryLog
from events.sqlite.log import SqliteLog
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


@dataclass
class KafkaStore:
    """Topics of its own on a broker that others use, too; every handle has its own connections."""

    bootstrap: str
    clock: Clock = field(default_factory=Clock)
    prefix: str = field(default_factory=lambda: f"{uuid.uuid4().hex[:8]}.")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Log]:
        async with KafkaLog(
            kafka_settings(f"kafka://{self.bootstrap}", {}, topic_prefix=self.prefix), create=COUNTS
        ) as log:
            yield log


class Makes(Protocol):
    """Makes a store; ``bootstrap`` gives the address of a broker, started when it is asked for."""

    def __call__(self, *, folder: Path, bootstrap: Callable[[], str]) -> Store: ...


STORES: dict[str, Makes] = {
    "kafka": lambda *, folder, bootstrap: KafkaStore(bootstrap()),  # noqa: ARG005
    "memory": lambda *, folder, bootstrap: MemoryStore(),  # noqa: ARG005, PLW0108
    "sqlite": lambda *, folder, bootstrap: SqliteStore(folder / "log.db"),  # noqa: ARG005
}

"""The log as one simulated process sees it: slow, failing, answering with errors, and gone when the process is.

Every call on the port is counted; a process can be made to die before or after call k, and to stall: then all its
calls hang for a while, and it wakes up as if nothing had happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Protocol, Self

from events.log import (
    Appended,
    FencedError,
    Fetched,
    IndefiniteError,
    LogError,
    LogUnavailableError,
    NewRecord,
    Reader,
    StoredRecord,
    TopicPartition,
)
from tests.simulation.broker import CLUSTER_ID, Broker
from tests.simulation.faults import Faults


class DiedError(BaseException):
    """The process is no more: raised out of every call on its port. No ``Exception``, so that nobody handles it."""


class Watcher(Protocol):
    """Who is told of what really happened."""

    def appended(self, port: FaultyLog, place: TopicPartition, offset: int, records: Sequence[NewRecord]) -> None:
        """The log took these at ``offset``, all in existence."""

    def published(self, records: Sequence[NewRecord]) -> None:
        """These stand in their topics now."""


class FaultyLog:
    """The port of one process, ``events.log.Log``."""

    def __init__(self, broker: Broker, faults: Faults, watcher: Watcher, name: str) -> None:
        self.broker = broker
        self.name = name
        self.calls = 0
        self.alive = True
        self.crash_at: tuple[int, bool] | None = None  #: the call at which the process dies; True: after its effect
        self.stalled_until_s = 0.0
        self.on_death: Callable[[], None] = lambda: None
        self._faults = faults
        self._watcher = watcher

    def die(self) -> None:
        """End the process here and now."""
        if self.alive:
            self.alive = False
            self.on_death()

    # --- the port ---

    @property
    def joins_outputs(self) -> bool:
        return self.broker.joins

    @property
    def leaves_gaps(self) -> bool:
        return self.broker.plain

    @property
    def keeps_time(self) -> bool:
        return self.broker.plain

    async def cluster_id(self) -> str:
        return CLUSTER_ID

    async def create_topics(self, partitions: Mapping[str, int]) -> None:
        async with self._call():
            await self.broker.memory.create_topics(partitions)

    async def partition_count(self, topic: str) -> int:
        return await self.broker.memory.partition_count(topic)

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        async with self._call():
            if self.broker.plain and self.broker.end(place) > 0 and self._faults.foreign():
                self._faults.counts["foreign log"] += 1
                self.broker.intrude(place)
            fault = self._faults.of_append()
            if fault == "fenced":
                raise FencedError(f"{place}: a fault says that somebody else has appended")
            if fault == "unavailable":
                raise LogUnavailableError(f"{place}: a fault says that the log cannot be written")
            if fault == "indefinite-before":
                raise IndefiniteError(f"{place}: a fault lost the append")
            if fault == "indefinite-late":
                self._later(lambda: self._append(place, records, expected, outputs))
                raise IndefiniteError(f"{place}: a fault holds the append back")
            done = await self._append(place, records, expected, outputs)
            if fault == "twice" and self.broker.plain:
                await self.broker.append(place, records, expected=expected)  # elsewhere: raises FencedError
            if fault == "indefinite-after":
                raise IndefiniteError(f"{place}: a fault lost the acknowledgement")
            return done

    async def publish(self, records: Sequence[NewRecord]) -> None:
        async with self._call():
            fault = self._faults.of_publish()
            if fault == "indefinite-before":
                raise IndefiniteError("a fault lost the publish")
            if fault == "indefinite-late":
                self._later(lambda: self._publish(records))
                raise IndefiniteError("a fault holds the publish back")
            if fault == "indefinite-partly":
                await self._publish(self._part(records))
                raise IndefiniteError("a fault lost a part of the publish")
            await self._publish(records)
            if fault == "doubled":
                await self._publish(records)
            if fault == "indefinite-after":
                raise IndefiniteError("a fault lost the acknowledgement")

    async def start_offset(self, place: TopicPartition) -> int:
        return await self.broker.memory.start_offset(place)

    async def end_offset(self, place: TopicPartition) -> int:
        async with self._call():
            return await self.broker.memory.end_offset(place)

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        async with self._call():
            return await self.broker.read(place, offset, records_max=records_max)

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        return FaultyReader(self, self.broker.reader(positions))

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        raise LogError(f"lanes do not commit positions; {group} tried to: {positions}")

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        raise LogError(f"lanes do not ask for committed positions; {group} did: {places}")

    async def close(self) -> None:
        """There is nothing to give back."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    # --- how ---

    @asynccontextmanager
    async def _call(self) -> AsyncIterator[None]:
        """One call on the port: the process may die before its effect, be slow or stalled, and die after it."""
        self.calls += 1
        call = self.calls
        self._perhaps_die(call, after=False)
        await self.slow_down()
        self._check_alive()
        yield
        self._perhaps_die(call, after=True)
        self._check_alive()

    async def slow_down(self) -> None:
        """Wait for the delay of this call, and as long as the process is stalled."""
        delay_s = self._faults.delay_s()
        if delay_s > 0:
            await asyncio.sleep(delay_s)
        while (left_s := self.stalled_until_s - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - it may grow
            await asyncio.sleep(left_s)

    def _perhaps_die(self, call: int, *, after: bool) -> None:
        self._check_alive()
        if self.crash_at == (call, after) or self._faults.crashes():
            self._faults.counts["crash after a call" if after else "crash before a call"] += 1
            self.die()

    def _check_alive(self) -> None:
        if not self.alive:
            raise DiedError(self.name)

    async def _append(
        self, place: TopicPartition, records: Sequence[NewRecord], expected: int, outputs: Sequence[NewRecord]
    ) -> Appended:
        done = await self.broker.append(place, records, expected=expected, outputs=outputs)
        self._watcher.published(outputs)  # first: the append's mark says that they are out
        self._watcher.appended(self, place, expected, records)
        return done

    async def _publish(self, records: Sequence[NewRecord]) -> None:
        await self.broker.memory.publish(records)
        self._watcher.published(records)

    def _part(self, records: Sequence[NewRecord]) -> list[NewRecord]:
        """The beginning of what goes to some partition."""
        place = self._faults.rng.choice(records)[:2]
        there = [record for record in records if record[:2] == place]
        return there[: self._faults.rng.randint(1, len(there))]

    def _later(self, write: Callable[[], Awaitable[object]]) -> None:
        """Let a write take effect when its caller believes it lost. It has left the process, so no crash stops it."""

        async def arrive() -> None:
            await asyncio.sleep(self._faults.late_s())
            try:
                await write()
            except LogError:
                self._faults.counts["late write refused"] += 1
            else:
                self._faults.counts["late write taken"] += 1

        asyncio.get_running_loop().create_task(arrive(), context=Context())


class FaultyReader:
    """A reader of one process."""

    def __init__(self, port: FaultyLog, reader: Reader) -> None:
        self._port = port
        self._reader = reader

    async def fetch(self, *, records_max: int, timeout_s: float | None) -> Sequence[StoredRecord]:
        async with self._port._call():
            while True:
                records = await self._reader.fetch(records_max=records_max, timeout_s=timeout_s)
                existing = [record for record in records if self._port.broker.exists(record)]
                if existing or not records:
                    return existing

    def position(self, place: TopicPartition) -> int:
        return self._reader.position(place)

    def seek(self, place: TopicPartition, offset: int) -> None:
        self._reader.seek(place, offset)

    def pause(self, places: Sequence[TopicPartition]) -> None:
        self._reader.pause(places)

    def resume(self, places: Sequence[TopicPartition]) -> None:
        self._reader.resume(places)

    async def end_offsets(self) -> dict[TopicPartition, int]:
        async with self._port._call():
            return await self._reader.end_offsets()

    async def close(self) -> None:
        await self._reader.close()

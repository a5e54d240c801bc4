"""Follows partitions on Kafka: the port's ``Reader``.

Each partition that has nothing left is asked for at once, in a fetch that waits at the broker; partitions that are
asked for together share one. No fetch waits behind another one: each has a connection of its own while it lasts. What
comes is kept as it is until ``fetch`` hands it out, so a seek past it costs nothing, and a ``fetch`` that is cancelled
has lost nothing.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from aiokafka import errors

from events.following import Bell, Fetching, check_offset
from events.kafka.batches import Span, Unreadable
from events.kafka.client import PAUSE_FIRST_S, PAUSE_MAX_S, KafkaClient
from events.kafka.reads import PARTITION_BYTES_MAX, KafkaReads
from events.kafka.requests import LATEST, Wanted, fetch, isolation, offsets
from events.log import LogError, StoredRecord, TopicPartition

WAIT_MS: Final = 500  #: how long a broker keeps a fetch that has nothing; it answers as soon as there is a byte
ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024  #: of one answer
BUFFERED_BYTES_MAX: Final = 16 * 1024 * 1024  #: of one reader; above that it asks for nothing more
QUIET_S: Final = 0.05  #: a partition at whose end this process has just appended is not asked for before that
AT_ONCE_MAX_S: Final = 5.0  #: a fetch that must not wait leaves a broker that does not answer after that


class Source(Protocol):
    """What a ``KafkaReader`` needs of its log."""

    bell: Bell
    client: KafkaClient
    reads: KafkaReads
    appending: set[TopicPartition]  #: partitions with an append of this process under way
    appended: dict[TopicPartition, int]  #: where the last append of this process ended

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that is ended when the log is closed."""


class _Followed:
    """One partition as a reader follows it."""

    __slots__ = ("error", "failing_since_s", "offset", "pause_s", "paused", "place", "poll", "quiet_until_s", "span")

    def __init__(self, place: TopicPartition, offset: int) -> None:
        self.place = place
        self.offset = offset  #: where the next fetch begins
        self.span: Span | None = None
        self.poll: object | None = None  #: stands for the question under way; another one, or None, makes it void
        self.paused = False
        self.error: LogError | None = None
        self.quiet_until_s = 0.0
        self.pause_s = PAUSE_FIRST_S
        self.failing_since_s: float | None = None


class KafkaReader:
    """Follows partitions from given positions."""

    def __init__(self, log: Source, positions: Mapping[TopicPartition, int]) -> None:
        for place, offset in positions.items():
            check_offset(place, offset)
        self._log = log
        self._followed = {place: _Followed(place, offset) for place, offset in positions.items()}
        self._order = list(self._followed.values())  #: the one whose turn it is stands first
        self._fetching = Fetching()
        self._woken = self._fetching.woken
        self._waking: asyncio.TimerHandle | None = None
        self._closed = False
        log.bell.listen(self._followed, self._woken)

    async def fetch(self, *, records_max: int, timeout_s: float | None) -> Sequence[StoredRecord]:
        """Wait for records, as the port has it. Raises ``OffsetOutOfRangeError`` for a position that cannot be read.

        A batch of an input topic that cannot be read comes as one record with the header ``UNREADABLE``; in a log it
        is a ``LogError``. Brokers that are away are waited for.
        """
        if records_max < 1:
            raise ValueError(f"records_max is {records_max}; it must be at least 1")
        with self._fetching.one_at_a_time():
            if timeout_s == 0:
                return await self._at_once(records_max)
            deadline_s = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
            while True:
                records = await self._look(records_max)
                if records or not await self._fetching.wait(deadline_s):
                    return records

    def position(self, place: TopicPartition) -> int:
        """The offset that the next fetch begins at."""
        return self._followed[place].offset

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from ``offset``; a fetch that is under way heeds it."""
        check_offset(place, offset)
        followed = self._followed.get(place)
        if followed is None:
            raise KeyError(f"{place.topic}/{place.partition} is not followed by this reader")
        if offset == followed.offset and followed.error is None:
            return
        followed.offset = offset
        followed.error = followed.poll = None
        if followed.span is not None and not followed.span.skip_to(offset):
            followed.span = None
        if self._log.appended.get(place) == offset:
            # Whoever appends need not look for others at once: they would fence it. Each look would bring back his own.
            followed.quiet_until_s = asyncio.get_running_loop().time() + QUIET_S
            self._wake_later()
        else:
            self._woken.set()

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Fetch nothing from these until ``resume``; a fetch that is under way heeds it."""
        for place in places:
            self._followed[place].paused = True

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""
        for place in places:
            self._followed[place].paused = False
        self._woken.set()

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """The end of every partition followed, asked for now."""
        self._check_open()
        client = self._log.client
        return await client.until_answered("end offsets", partial(offsets, client, list(self._followed), LATEST))

    async def close(self) -> None:
        """Stop following. A fetch that is under way raises ``LogError``."""
        if self._closed:
            return
        self._closed = True
        for followed in self._order:
            followed.poll = followed.span = None
        if self._waking is not None:
            self._waking.cancel()
        self._woken.set()
        self._log.bell.leave(self._followed, self._woken)

    async def _look(self, records_max: int) -> list[StoredRecord]:
        self._woken.clear()
        self._check_open()
        await self._settle_doubts()
        records = self._hand_out(records_max)
        self._ask(self._unasked(), WAIT_MS)
        return records

    async def _at_once(self, records_max: int) -> list[StoredRecord]:
        """What there is; asks anew, since a fetch that waits at a broker says nothing of what came just now."""
        records = await self._look(records_max)
        while not records:
            before = [followed.offset for followed in self._order]
            wanting = [followed for followed in self._order if followed.span is None and not followed.paused]
            if wanting:
                await asyncio.wait(self._ask(wanting, 0), timeout=AT_ONCE_MAX_S)
            records = await self._look(records_max)
            if before == [followed.offset for followed in self._order]:
                break
        return records

    async def _settle_doubts(self) -> None:
        """Whether a log is still the same, when a record of another one was seen in it."""
        for followed in self._order:
            if isolation(followed.place.topic) == 0:
                rule = self._log.reads.log_ids.known(followed.place)
                if rule is not None and rule.is_in_doubt:
                    await self._log.reads.log_ids.rule(followed.place)

    def _hand_out(self, records_max: int) -> list[StoredRecord]:
        for followed in self._order:
            if followed.error is not None and not followed.paused:
                error, followed.error = followed.error, None
                raise error
        records: list[StoredRecord] = []
        served: _Followed | None = None
        for followed in self._order:
            if len(records) == records_max:
                break
            if followed.span is None or followed.paused or followed.place in self._log.appending:
                continue
            before = len(records)
            self._hand_out_one(followed, records, records_max)
            if served is None and len(records) > before:
                served = followed
        if served is not None:
            turn = self._order.index(served) + 1
            self._order = self._order[turn:] + self._order[:turn]
        return records

    def _hand_out_one(self, followed: _Followed, records: list[StoredRecord], records_max: int) -> None:
        span = followed.span
        while span is not None and len(records) < records_max:
            taken = span.take(records_max - len(records))
            if isinstance(taken, Unreadable):
                followed.span = None  # an error leaves the position where it is
                records.append(self._log.reads.taken(followed.place, taken))
                followed.span = span
            else:
                records.extend(taken)
            followed.offset = span.offset_next
            if span.is_empty:
                span = followed.span = None

    # --- asking ---

    def _unasked(self) -> list[_Followed]:
        """The partitions of which nothing is here and nothing on its way."""
        if sum(followed.span.size_bytes for followed in self._order if followed.span) >= BUFFERED_BYTES_MAX:
            return []
        now_s = asyncio.get_running_loop().time()
        return [
            followed
            for followed in self._order
            if followed.span is None
            and followed.poll is None
            and followed.error is None
            and not followed.paused
            and followed.quiet_until_s <= now_s
        ]

    def _ask(self, wanting: Iterable[_Followed], wait_ms: int) -> list[asyncio.Task[None]]:
        by_isolation: dict[int, list[_Followed]] = defaultdict(list)
        for followed in wanting:
            by_isolation[isolation(followed.place.topic)].append(followed)
        tasks = []
        for group in by_isolation.values():
            token = object()
            for followed in group:
                followed.poll = token
            tasks.append(self._log.spawn(self._poll(group, token, wait_ms)))
        return tasks

    async def _poll(self, group: Sequence[_Followed], token: object, wait_ms: int) -> None:
        """Ask for a group of partitions, the leaders of which may be several brokers."""
        by_node: dict[int, list[_Followed]] = defaultdict(list)
        for followed in group:
            try:
                await self._log.client.connect()
                by_node[await self._log.client.leader(followed.place)].append(followed)
            except (errors.KafkaError, OSError, TimeoutError, LogError) as error:
                await self._failed(followed, token, error)
        fetches = [self._fetch_from(node, led, token, wait_ms) for node, led in by_node.items()]
        if len(fetches) == 1:
            await fetches[0]
        elif wait_ms == 0:
            await asyncio.gather(*fetches)
        else:
            for work in fetches:
                self._log.spawn(work)

    async def _fetch_from(self, node: int, group: Sequence[_Followed], token: object, wait_ms: int) -> None:
        client = self._log.client
        wanted = [Wanted(followed.place, followed.offset) for followed in group if followed.poll is token]
        if not wanted:
            return
        slot = client.take_slot(node)
        try:
            answers = await fetch(
                client,
                node,
                wanted,
                wait_ms=wait_ms,
                partition_bytes_max=PARTITION_BYTES_MAX,
                bytes_max=ANSWER_BYTES_MAX,
                slot=slot,
            )
        except (errors.KafkaError, OSError, TimeoutError, LogError) as error:
            for followed in group:
                await self._failed(followed, token, error)
            return
        finally:
            client.give_slot(node, slot)
        for want in wanted:
            followed = self._followed[want.place]
            try:
                if followed.poll is token:
                    stretch = await self._log.reads.judged(want, answers[want.place])
                    self._take(followed, token, stretch.span)
            except (errors.KafkaError, OSError, TimeoutError, LogError) as error:
                await self._failed(followed, token, error)
        self._woken.set()

    def _take(self, followed: _Followed, token: object, span: Span | None) -> None:
        if followed.poll is token:  # not overtaken by a seek
            followed.span = span
            followed.poll = None
            followed.pause_s = PAUSE_FIRST_S
            followed.failing_since_s = None

    async def _failed(self, followed: _Followed, token: object, error: Exception) -> None:
        """Ask again after a pause, or keep the error for whoever fetches."""
        loop = asyncio.get_running_loop()
        if followed.poll is not token or self._closed or self._log.client.is_closed:
            return
        if followed.failing_since_s is None:
            followed.failing_since_s = loop.time()
        try:
            if isinstance(error, LogError):
                raise error
            what = f"{followed.place.topic}/{followed.place.partition}"
            await self._log.client.bear(what, error, waited_s=loop.time() - followed.failing_since_s)
        except LogError as final:
            if followed.poll is token:
                followed.error, followed.poll = final, None
                self._woken.set()
            return
        loop.call_later(followed.pause_s, self._ask_again, followed, token)
        followed.pause_s = min(followed.pause_s * 2, PAUSE_MAX_S)

    def _ask_again(self, followed: _Followed, token: object) -> None:
        if followed.poll is token:
            followed.poll = None
            self._woken.set()

    def _wake_later(self) -> None:
        """Look again when the partitions that are left in peace may be asked for."""
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(QUIET_S, self._wake)

    def _wake(self) -> None:
        self._waking = None
        now_s = asyncio.get_running_loop().time()
        if any(followed.quiet_until_s > now_s for followed in self._order):
            self._wake_later()
        else:
            self._woken.set()

    def _check_open(self) -> None:
        self._log.check_open()
        if self._closed:
            raise LogError("the reader is closed")

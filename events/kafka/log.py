"""The log on Kafka: the conditional append made of plain records, and everything else that the port has.

An append is one batch. It took effect if it was acknowledged at the offset that it was written for; its records then
exist for every reader, and in every other case for none (``events/kafka/existing.py``). Writing is
``events/kafka/writer.py``'s business, reading ``events/kafka/reads.py``'s and ``events/kafka/reader.py``'s, who works
on which partition ``events/kafka/ownership.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka.admin import NewTopic

from events.adapter import check_append, check_outputs, check_partitions, check_publish
from events.following import Bell
from events.kafka import check, requests, topics
from events.kafka.client import PAUSE_MAX_S, KafkaClient
from events.kafka.ownership import KafkaOwnership
from events.kafka.reach import admin_client
from events.kafka.reader import KafkaReader
from events.kafka.reads import KafkaReads
from events.kafka.settings import KafkaSettings
from events.kafka.writer import KafkaWriter, split
from events.log import (
    Appended,
    FencedError,
    Fetched,
    Flaw,
    LogError,
    LogUnavailableError,
    NewRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.ownership import Change, Waiting
from events.topics import RECORD_BYTES_MAX, TOPICS, Topic

ALREADY_EXISTS: Final = 36  #: Kafka's code
PATIENCE_S: Final = 30.0  #: with brokers that were there a moment ago

ResultT = TypeVar("ResultT")

logger = logging.getLogger(__name__)


class KafkaLog:
    """A log on a Kafka cluster, in one event loop.

    ``create``: topics to make where they are missing, when the log is entered. Nothing is connected before the first
    call or ``async with``, which raises ``LogUnavailableError`` with what to do if no broker lets us in.
    """

    joins_outputs = False
    leaves_gaps = True
    keeps_time = True

    def __init__(self, settings: KafkaSettings, *, create: Mapping[str, int] | None = None) -> None:
        self.client = KafkaClient(settings)
        self.reads = KafkaReads(self.client)
        self.ownership = KafkaOwnership(self.client)
        self.bell = Bell()
        self.appending: set[TopicPartition] = set()
        self.appended: dict[TopicPartition, int] = {}
        self._settings = settings
        self._create = dict(create or {})
        self._writer = KafkaWriter(self.client)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def cluster_id(self) -> str:
        """Kafka's cluster id."""
        return await self.client.cluster_id()

    def fenced_records(self) -> dict[TopicPartition, int]:
        """For every log partition that was read: how many of its records do not exist."""
        return self.reads.log_ids.fenced_records()

    async def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Make the topics that do not exist yet, as ``events/kafka/topics.py`` has them; ``LogError`` as the port."""
        self.check_open()
        for topic, count in partitions.items():
            check_partitions(topic, count)
        if partitions:
            await self.client.connect()
            await self._patiently(partial(topics.create, self._settings, partitions))
            await self._create_others({name: count for name, count in partitions.items() if name not in TOPICS})
            for topic, count in partitions.items():
                await self._until_known(topic, count)
                if await self.client.count(topic) != count:
                    name = self._settings.topic(topic)
                    raise LogError(f"{name} exists with another partition count than {count}; a topic's count is fixed")

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic has; ``UnknownTopicError`` if there is no such topic."""
        self.check_open()
        return await self.client.count(topic)

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """Append all records or none, if the partition's end is ``expected``. They must be sealed for it.

        On ``FencedError`` they stand in the topic but do not exist. Whoever appended there before, and whether, is
        found by reading to the end, as after ``IndefiniteError``. A call that is cancelled is indefinite.
        """
        check_append(place, records)
        check_outputs(self, outputs)
        self.check_open()
        await self.client.check_place(place)
        if not records:
            return await self._append_nothing(place, expected)
        done: Appended = await self._finishing(self._append(place, records, expected))
        return done

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append records to any partitions, in order per partition. Brokers that are away: ``IndefiniteError``."""
        check_publish(records)
        self.check_open()
        by_place: dict[TopicPartition, list[int]] = {}
        for index, record in enumerate(records):
            by_place.setdefault(TopicPartition(record.topic, record.partition), []).append(index)
        queues: list[list[Sequence[NewRecord]]] = []
        for place, indices in by_place.items():
            await self.client.check_place(place)
            queues.append(split([records[index] for index in indices], indices))
        if queues:
            await self._finishing(self._publish(queues))

    async def start_offset(self, place: TopicPartition) -> int:
        """The lowest offset that may hold a record."""
        return await self._offset(place, requests.EARLIEST)

    async def end_offset(self, place: TopicPartition) -> int:
        """The offset after the last record, whether that exists or not: what the next append must expect."""
        return await self._offset(place, requests.LATEST)

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records from ``offset`` on; fewer than there are if they have more than 16 MiB.

        ``offset_next`` passes records that do not exist. Waits while brokers are away.
        """
        self.check_open()
        await self.client.check_place(place)
        return await self.reads.read(place, offset, records_max=records_max)

    def reader(self, positions: Mapping[TopicPartition, int]) -> KafkaReader:
        """A reader that follows these partitions from these offsets."""
        self.check_open()
        return KafkaReader(self, positions)

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Remember a group's positions, as Kafka's own group positions: tools that show lag see them."""
        self.check_open()
        for place in positions:
            await self.client.check_place(place)
        if positions:
            name = self._settings.group(group)
            await self.client.until_answered(f"group {name}", partial(requests.commit, self.client, name, positions))

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """A group's positions; partitions without one are absent."""
        self.check_open()
        for place in places:
            await self.client.check_place(place)
        if not places:
            return {}
        name = self._settings.group(group)
        return await self.client.until_answered(f"group {name}", partial(requests.committed, self.client, name, places))

    async def own(
        self,
        role: str,
        partitions: int,
        change: Change,
        stop: asyncio.Event,
        *,
        waiting: Waiting | None = None,  # noqa: ARG002 - nobody has a whole role here, its partitions are shared out
    ) -> None:
        """Own the partitions of ``role`` that its consumer group gives this process."""
        self.check_open()
        await self.ownership.own(role, partitions, change, stop)

    async def flaws(self) -> Sequence[Flaw]:
        """What differs from sound settings of brokers and topics (``events/kafka/check.py``)."""
        self.check_open()
        found = await self._patiently(partial(check.problems, self._settings))
        return [Flaw(problem.severity == "error", str(problem)) for problem in found if problem.severity != "note"]

    async def is_owned(self, role: str) -> bool:
        """Whether the role's group has any member."""
        self.check_open()
        return await self.ownership.has_members(role)

    async def close(self) -> None:
        """Finish what is under way, wake who waits (``LogError``), give everything back. May be called again."""
        if self._closed:
            return
        self._closed = True
        self.bell.ring_all()
        if self._writes:
            await asyncio.wait(self._writes)
        self.client.is_closed = True
        await self.reads.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.client.close()

    async def __aenter__(self) -> Self:
        try:
            await self.client.connect()
            await self.create_topics(self._create)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""
        if self._closed:
            raise LogError("the log is closed")

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that is ended when the log is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _patiently(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Ask again for a while: brokers that have let us in may be about to restart."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + PATIENCE_S
        while True:
            try:
                return await call()
            except LogUnavailableError as error:
                if not error.retriable or loop.time() >= until_s:
                    raise
                logger.info("asking again: %s", error)
            await asyncio.sleep(PAUSE_MAX_S)

    async def _finishing(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a write that ``close`` waits for; a caller that is cancelled leaves it to its end."""
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._written)
        await asyncio.wait({task})
        return task.result()

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writes.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where the caller was cancelled

    async def _append(self, place: TopicPartition, records: Sequence[NewRecord], expected: int) -> Appended:
        self.appending.add(place)
        try:
            (done,) = await self._writer.send([records])
        finally:
            self.appending.discard(place)
            self.bell.ring(place)  # readers that waited for the outcome; they run after the caller's next steps
        if isinstance(done, LogError):
            raise done
        if done.offset != expected:
            end = "somewhere" if done.offset < 0 else f"at {done.offset}"
            raise FencedError(f"{place.topic}/{place.partition}: written {end}, expected was {expected}")
        self.appended[place] = expected + len(records)
        return Appended(expected + len(records), done.time_ms)

    async def _append_nothing(self, place: TopicPartition, expected: int) -> Appended:
        end = await self.end_offset(place)
        if end != expected:
            raise FencedError(f"{place.topic}/{place.partition}: the end is {end}, expected was {expected}")
        last = (await self.reads.read(place, max(end - 1, 0), records_max=1)).records if end else ()
        return Appended(end, last[0].time_ms if last else 0)

    async def _publish(self, queues: Sequence[Sequence[Sequence[NewRecord]]]) -> None:
        """Publish each partition's batches: one leaves only after the one before it was confirmed."""
        for batches in zip_longest(*queues):
            outcomes = await self._writer.send([batch for batch in batches if batch is not None])
            failed = [outcome for outcome in outcomes if isinstance(outcome, LogError)]
            if failed:  # what is refused would be refused again; the rest may be repeated
                raise next((error for error in failed if not error.retriable), failed[0])

    async def _offset(self, place: TopicPartition, which: int) -> int:
        self.check_open()
        await self.client.check_place(place)
        return await self.reads.offset(place, which)

    async def _create_others(self, partitions: Mapping[str, int]) -> None:
        """Make topics that the design does not name, kept like outputs."""
        if not partitions:
            return
        async with admin_client(self._settings) as admin:
            brokers = len((await admin.describe_cluster())["brokers"])
            wanted = [
                topics.wanted_topic(
                    Topic(name, "source", "days", "publish", RECORD_BYTES_MAX), partitions=count, brokers=brokers
                )
                for name, count in partitions.items()
            ]
            answer = await admin.create_topics(
                [
                    NewTopic(
                        name=self._settings.topic(topic.name),
                        num_partitions=topic.partitions,
                        replication_factor=topic.replication,
                        topic_configs=topic.configs,
                    )
                    for topic in wanted
                ],
                timeout_ms=self._settings.request_timeout_ms,
                validate_only=False,
            )
        for name, code, text in (error[:3] for error in answer.topic_errors):
            if code not in (0, ALREADY_EXISTS):
                raise LogError(f"topic {name} cannot be made: {text or code}")

    async def _until_known(self, topic: str, count: int) -> None:
        """Wait until a topic that was just made has its partitions and their leaders."""
        for partition in range(count):
            while True:
                try:
                    await self.client.check_place(TopicPartition(topic, partition))
                    await self.client.until_answered(
                        topic, partial(self.client.leader, TopicPartition(topic, partition))
                    )
                    break
                except UnknownTopicError:
                    await asyncio.sleep(0.02)

"""The log port: append on condition, publish, read, follow.

Adapters (``memory``, ``sqlite``, later ``kafka``) implement ``Log`` and pass ``tests/contract``. A *log* topic is
written by ``append`` alone, every other topic by ``publish``; both are read the same way.
The rules that make a conditional append out of plain records (``expected-offset``, ``log-id``, ``after``) stand in
``events/chain.py``; what to do after an error is the lane's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Protocol, Self

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic; the topic's name is without the prefix."""

    topic: str
    partition: int


class StoredRecord(NamedTuple):
    """A record as it stands in a partition. ``value`` None is a tombstone."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    time_ms: int  #: when the log took it, Unix milliseconds

    @property
    def place(self) -> TopicPartition:
        """The partition that the record stands in."""
        return TopicPartition(self.topic, self.partition)


class NewRecord(NamedTuple):
    """A record to write."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Appended(NamedTuple):
    """An append that was acknowledged."""

    offset_next: int  #: the log's end after it
    time_ms: int  #: the log's clock at the append, Unix milliseconds


class Fetched(NamedTuple):
    """What ``Log.read`` found. ``offset_next`` is where to go on, also past offsets that hold no record."""

    records: Sequence[StoredRecord]
    offset_next: int


class Flaw(NamedTuple):
    """Something in a store's own settings that the promises do not stand on."""

    is_fatal: bool  #: they are broken by it: nothing may be decided here
    sentence: str


class LogError(Exception):
    """The root of the log's errors. ``retriable``: whether the same call may succeed later, unchanged."""

    retriable = False


class FencedError(LogError):
    """The log's end was not the expected one: somebody else has appended. The records do not exist."""


class IndefiniteError(LogError):
    """No answer: the records may or may not exist. Repeat a publish; after an append fold to the end first."""

    retriable = True


class LogUnavailableError(LogError):
    """The log cannot be reached or written (full disk, read-only file, no broker). The message says what to do."""

    retriable = True


class RecordTooLargeError(LogError):
    """A record is over the topic's limit; nothing of the call was written. ``index`` is its place in the call."""

    def __init__(self, index: int, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"record {index} has {size_bytes:,} bytes; the topic takes {limit_bytes:,}")
        self.index = index
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class UnknownTopicError(LogError):
    """The topic or the partition does not exist in this log."""


class OffsetOutOfRangeError(LogError):
    """A position lies below the topic's start or above its end."""


class DamagedLogError(LogError):
    """A log is not what was written: a record cannot be read, or the log was cut, mixed or made anew under us.

    Nothing was changed; somebody has to look. ``sentence`` says it without the place, if one is given.
    """

    def __init__(self, sentence: str, *, place: TopicPartition | None = None, offset: int | None = None) -> None:
        super().__init__(
            sentence if place is None else f"{place.topic}/{place.partition} at offset {offset}: {sentence}"
        )
        self.sentence = sentence
        self.place = place
        self.offset = offset


class Reader(Protocol):
    """Follows partitions from given positions. For one task at a time."""

    async def fetch(self, *, records_max: int, timeout_s: float | None) -> Sequence[StoredRecord]:
        """Wait for records, at most ``records_max`` in all, per partition in order; advances the positions.

        Returns as soon as there is at least one; an empty sequence after ``timeout_s`` (None: never; 0: at once).
        Partitions that have records are served in turn, none starves. Safe to cancel: nothing is lost.
        """

    def position(self, place: TopicPartition) -> int:
        """The offset that the next fetch begins at."""

    def seek(self, place: TopicPartition, offset: int) -> None:
        """Go on from ``offset``; what was fetched before is not returned again unless it is lower."""

    def pause(self, places: Sequence[TopicPartition]) -> None:
        """Fetch nothing from these until ``resume``."""

    def resume(self, places: Sequence[TopicPartition]) -> None:
        """Fetch from these again."""

    async def end_offsets(self) -> dict[TopicPartition, int]:
        """The end of every partition followed, asked for now."""

    async def close(self) -> None:
        """Give everything back."""


class Log(Protocol):
    """Topics with partitions of records. Everything acknowledged is durable."""

    @property
    def joins_outputs(self) -> bool:
        """Whether ``append`` can publish in the same step: what it decides and what follows from it stand together."""

    @property
    def leaves_gaps(self) -> bool:
        """Whether a fenced append leaves offsets that hold no record."""

    @property
    def keeps_time(self) -> bool:
        """Whether its times are of another machine's clock; else of this one's, though they never go back with it."""

    async def cluster_id(self) -> str:
        """Names this store for ever; a copy keeps it, a new one has another."""

    async def create_topics(self, partitions: Mapping[str, int]) -> None:
        """Make the topics that do not exist yet; one that exists with another count raises ``LogError``."""

    async def partition_count(self, topic: str) -> int:
        """How many partitions the topic has; ``UnknownTopicError`` if there is no such topic."""

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """Append all records or none, if the partition's end is ``expected``.

        ``outputs`` are published if and only if the records are appended; only a log that ``joins_outputs`` takes any.
        Raises ``FencedError`` if it is not, ``IndefiniteError`` when nobody can say, ``RecordTooLargeError`` before
        anything is written, ``LogUnavailableError`` when nothing was written.
        """

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Append records to any partitions, in order per partition; returns when all are durable.

        Raises ``IndefiniteError`` (any part may stand: repeat the call), ``RecordTooLargeError`` and
        ``LogUnavailableError`` (nothing was written).
        """

    async def start_offset(self, place: TopicPartition) -> int:
        """The lowest offset that may hold a record."""

    async def end_offset(self, place: TopicPartition) -> int:
        """The offset after the last record."""

    async def read(self, place: TopicPartition, offset: int, *, records_max: int) -> Fetched:
        """Records from ``offset`` on, at once, as many as there are up to ``records_max``.

        Of a log, fewer where one cannot be read; read from that one on, it raises ``DamagedLogError``.
        """

    def reader(self, positions: Mapping[TopicPartition, int]) -> Reader:
        """A reader that follows these partitions from these offsets."""

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        """Remember a group's positions."""

    async def committed(self, group: str, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """A group's positions; partitions without one are absent."""

    async def close(self) -> None:
        """Finish what is under way and give everything back."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

"""What the log adapters share: which writes a topic takes, and how large its records may be.

Where records go is each adapter's business; following partitions is ``events/following.py``'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from events.log import Log, LogError, NewRecord, OffsetOutOfRangeError, RecordTooLargeError, TopicPartition
from events.topics import RECORD_BYTES_MAX, TOPICS

PARTITIONS_MAX: Final = 10_000  #: of one topic; more is a slip of the pen
UNREADABLE: Final = "vip-router-unreadable"  #: the header of a record that stands for what a store could not read


def record_bytes(record: NewRecord) -> int:
    """What a topic's limit is held against: key, value, and names and values of the headers."""
    _topic, _partition, key, value, headers = record
    size = (0 if key is None else len(key)) + (0 if value is None else len(value))
    for name, content in headers:
        size += len(name.encode()) + len(content)
    return size


def limit_bytes(topic: str) -> int:
    """The largest record that ``topic`` takes; a topic that the design does not name has the general limit."""
    known = TOPICS.get(topic)
    return RECORD_BYTES_MAX if known is None else known.record_bytes_max


def is_compacted(topic: str) -> bool:
    """Whether ``topic`` keeps only the last record of each key."""
    known = TOPICS.get(topic)
    return known is not None and known.keeps == "compacted"


def is_log(topic: str) -> bool:
    """Whether ``topic`` is written by conditional appends alone."""
    known = TOPICS.get(topic)
    return known is not None and known.written_by == "append"


def check_append(place: TopicPartition, records: Sequence[NewRecord]) -> None:
    """Raise what is wrong with an append that can be said without looking into the log."""
    for index, record in enumerate(records):
        if record[:2] != place:
            raise ValueError(
                f"record {index} is for {record.topic}/{record.partition}, the append for "
                f"{place.topic}/{place.partition}: one append writes one partition"
            )
    _check_way(place.topic, "append")
    _check_records(records)


def check_publish(records: Sequence[NewRecord]) -> None:
    """Raise what is wrong with a publish that can be said without looking into the log."""
    for topic in {record.topic for record in records}:
        _check_way(topic, "publish")
    _check_records(records)


def check_outputs(log: Log, outputs: Sequence[NewRecord]) -> None:
    """Raise what is wrong with the outputs of an append."""
    if outputs and not log.joins_outputs:
        raise LogError("this log does not join outputs to an append: publish them when it is confirmed")
    check_publish(outputs)


def check_partitions(topic: str, count: int) -> None:
    """Raise ``ValueError`` for a partition count that no topic can have."""
    if not 1 <= count <= PARTITIONS_MAX:
        raise ValueError(f"partitions of {topic}: {count} is not between 1 and {PARTITIONS_MAX:,}")


def check_range(place: TopicPartition, offset: int, *, start: int, end: int) -> None:
    """Raise ``OffsetOutOfRangeError`` unless reading can begin at ``offset``."""
    if not start <= offset <= end:
        raise OffsetOutOfRangeError(
            f"{place.topic}/{place.partition}: offset {offset} is not between the start {start} and the end {end}"
        )


def _check_way(topic: str, way: Literal["append", "publish"]) -> None:
    known = TOPICS.get(topic)
    if known is not None and known.written_by != way:
        raise LogError(f"{topic} is written by {known.written_by} alone, not by {way}")


def _check_records(records: Sequence[NewRecord]) -> None:
    rules = {topic: (limit_bytes(topic), is_compacted(topic)) for topic in {record.topic for record in records}}
    for index, record in enumerate(records):
        limit, compacted = rules[record.topic]
        size_bytes = record_bytes(record)
        if size_bytes > limit:
            raise RecordTooLargeError(index, size_bytes, limit)
        if compacted and record.key is None:
            raise LogError(f"record {index} has no key: {record.topic} keeps the last record of each key")

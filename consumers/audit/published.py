"""What stands on the topics that are made from the logs, summed up so that it can be held against the logs.

A topic is read once. Of every (log partition, topic partition) pair only the first and the last output, their number
and a digest are kept: memory does not grow with the topic. Repeats, which "at least once" allows, are compared with
the log record that they name. What a digest does not agree with is found by reading the pair side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

from consumers.audit.checking import Partition
from consumers.audit.reading import ends_of, place_of, seen, stream
from consumers.audit.report import BrokenError, Counts, Place, compare
from events.log import Log, NewRecord, StoredRecord, TopicPartition
from events.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, ASSIGNMENTS_LOG, REPLIES, ROUTING_LOG

MADE_FROM: Final = {REPLIES: ROUTING_LOG, ASSIGNMENT_REQUESTS: ROUTING_LOG, ASSIGNMENTS: ASSIGNMENTS_LOG}
CHECK: Final = "outputs"
_PERSONAL: Final = frozenset({"text", "email", "name", "variables", "channel", "pii"})  #: and what stands below them

Order = tuple[int, int]  #: offset of the log record, and which of its outputs


class Output(NamedTuple):
    """An output that a log record makes, or that stands on a topic."""

    order: Order
    key: bytes | None
    value: bytes | None
    offset: int | None  #: where it stands; None: it is what the record makes


class _Digest:
    """A digest of outputs in order."""

    def __init__(self) -> None:
        self.count = 0
        self._hash = sha256()

    def add(self, order: Order, key: bytes | None, value: bytes | None) -> None:
        self.count += 1
        for part in (b"%d/%d" % order, key or b"", value or b""):
            self._hash.update(b"%d:" % len(part))
            self._hash.update(part)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Digest) and (self.count, self._hash.digest()) == (other.count, other._hash.digest())

    __hash__ = None  # type: ignore[assignment]  # it changes


@dataclass(slots=True)
class Pair:
    """The outputs of one log partition on one topic partition, repeats aside."""

    place: TopicPartition
    starts_late: bool  #: the topic no longer has its beginning
    first: Order | None = None
    last: Order = (-1, 0)
    there: _Digest = field(default_factory=_Digest)
    made: _Digest = field(default_factory=_Digest)

    def concerns(self, order: Order) -> bool:
        """Whether an output of this order must be among those on the topic."""
        if self.starts_late and (self.first is None or order < self.first):
            return False
        return order <= self.last


class Published:
    """The topics' side."""

    def __init__(self, log: Log, partitions: Sequence[Partition], counts: Counts) -> None:
        self._log = log
        self._counts = counts
        self._sources = {partition.at.place: partition for partition in partitions}
        self._pairs: dict[tuple[TopicPartition, TopicPartition], Pair] = {}
        self._late: dict[TopicPartition, bool] = {}
        self.found = Counter[str]()
        self.problem: BrokenError | None = None  #: the first output that belongs to no record; told after the logs' own

    def pair(self, source: TopicPartition, place: TopicPartition) -> Pair:
        """The pair, an empty one if there is nothing on the topic."""
        pair = self._pairs.get((source, place))
        if pair is None:
            pair = self._pairs[source, place] = Pair(place, self._late[place])
        return pair

    def of(self, source: TopicPartition) -> list[Pair]:
        """All pairs of a log partition."""
        return [pair for (owner, _), pair in self._pairs.items() if owner == source]

    async def read(self, ends: Mapping[TopicPartition, int]) -> None:
        """Read the topics up to ``ends``."""
        for place, end in ends.items():
            start = await self._log.start_offset(place)
            self._late[place] = start > 0
            async for stored in stream(self._log, place, end, start=start):
                self._counts.step()
                try:
                    await self._take(stored)
                except BrokenError as broken:
                    broken.check = CHECK
                    broken.place = broken.place or place_of(stored)
                    self.problem = self.problem or broken

    async def _take(self, stored: StoredRecord) -> None:
        source, order = self._source_of(stored)
        if order[0] >= source.at.end:
            if order[0] >= await self._log.end_offset(source.at.place):
                raise BrokenError(f"it comes from no record: {source.at.place.topic} does not reach offset {order[0]}")
            self.found["too new"] += 1
            return
        pair = self.pair(source.at.place, stored.place)
        if order > pair.last:
            pair.first = pair.first or order
            pair.last = order
            pair.there.add(order, stored.key, stored.value)
            self.found["outputs"] += 1
            return
        self.found["repeated outputs"] += 1
        if not (pair.starts_late and pair.first is not None and order < pair.first):
            await self._check_repeat(source, order, stored)

    def _source_of(self, stored: StoredRecord) -> tuple[Partition, Order]:
        source, order, log_id = named_source(stored)
        partition = self._sources.get(source)
        if partition is None or partition.log_id != log_id:
            raise BrokenError(f"it comes from a log that is not here: {source.topic}/{source.partition} {log_id}")
        return partition, order

    async def _check_repeat(self, source: Partition, order: Order, stored: StoredRecord) -> None:
        wanted = await _made_at(self._log, source, order, stored.place)
        if wanted is None:
            raise BrokenError(_forged(source, order))
        _same(wanted, stored, source)


def named_source(stored: StoredRecord) -> tuple[TopicPartition, Order, str]:
    """The log partition, the order and the log's id that an output names; ``BrokenError`` if it names none."""
    try:
        data = orjson.loads(stored.value or b"")["data"]
        log: dict[str, Any] = data["log"]
        source = TopicPartition(MADE_FROM[stored.topic], int(log["partition"]))
        return source, (int(log["offset"]), int(data["n"])), str(log["id"])
    except (ValueError, KeyError, TypeError):
        raise BrokenError("it is no output of ours: it names no log record that it comes from") from None


def made_by(source: Partition, stored: StoredRecord) -> list[tuple[TopicPartition, Output]]:
    """What a log record makes, with where it belongs."""
    found = seen(stored)
    if not found.moves:
        return []
    outputs: Sequence[NewRecord] = source.at.spec.outputs(found.record, source.origin)
    return [
        (TopicPartition(out.topic, out.partition), Output((stored.offset, n), out.key, out.value, None))
        for n, out in enumerate(outputs, 1)
    ]


async def _made_at(log: Log, source: Partition, order: Order, place: TopicPartition) -> Output | None:
    """What the log makes of this order in this place; None: nothing."""
    records = [record async for record in stream(log, source.at.place, order[0] + 1, start=order[0])]
    made = made_by(source, records[0]) if records else []
    return next((output for where, output in made if where == place and output.order == order), None)


async def locate(log: Log, source: Partition, pair: Pair, end: int) -> None:
    """Read a pair side by side and raise ``BrokenError`` at the first output that is missing or was not made."""
    made, there = _made(log, source, pair), _there(log, source, pair, end)
    wanted, found = await anext(made, None), await anext(there, None)
    while found is not None:
        stored, order = found
        if wanted is None or (order != wanted.order and await _made_at(log, source, order, pair.place) is None):
            raise BrokenError(_forged(source, order), place=place_of(stored), check=CHECK)
        if order != wanted.order:
            raise missing(source, wanted, pair.place)
        try:
            _same(wanted, stored, source)
        except BrokenError as broken:
            broken.place, broken.check = place_of(stored), CHECK
            raise
        wanted, found = await anext(made, None), await anext(there, None)
    if wanted is not None and wanted.order <= pair.last:
        raise missing(source, wanted, pair.place)


def missing(source: Partition, wanted: Output, place: TopicPartition) -> BrokenError:
    """An output that should be there, placed at the record that made it."""
    at = source.at.place
    event = orjson.loads(wanted.value or b"{}")
    return BrokenError(
        f"its output {event.get('id')} ({event.get('type')}) is missing on {place.topic}/{place.partition}, and "
        "the log or a later output says that it was published",
        place=Place(topic=at.topic, partition=at.partition, offset=wanted.order[0]),
        check=CHECK,
    )


async def _made(log: Log, source: Partition, pair: Pair) -> AsyncIterator[Output]:
    async for stored in stream(log, source.at.place, source.at.end):
        for place, output in made_by(source, stored):
            if place == pair.place and not (pair.starts_late and pair.first is not None and output.order < pair.first):
                yield output


async def _there(log: Log, source: Partition, pair: Pair, end: int) -> AsyncIterator[tuple[StoredRecord, Order]]:
    last: Order = (-1, 0)
    async for stored in stream(log, pair.place, end, start=await log.start_offset(pair.place)):
        try:
            owner, order, _ = named_source(stored)
        except BrokenError:
            continue  # told elsewhere
        if owner == source.at.place and last < order and order[0] < source.at.end:
            last = order
            yield stored, order


def _forged(source: Partition, order: Order) -> str:
    place = source.at.place
    return f"it comes from no record: {place.topic}/{place.partition} at offset {order[0]} makes no such output here"


def _same(wanted: Output, stored: StoredRecord, source: Partition) -> None:
    if wanted.value == stored.value and wanted.key == stored.key:
        return
    place = source.at.place
    sentence = f"it is not what {place.topic}/{place.partition} at offset {wanted.order[0]} makes"
    if wanted.value == stored.value:
        raise BrokenError(sentence, field="(key)", expected=_text(wanted.key), found=_text(stored.key))
    difference = compare(orjson.loads(wanted.value or b"null"), orjson.loads(stored.value or b"null"))
    if difference is None:
        raise BrokenError(f"{sentence}: the same content in other bytes")
    path, expected, found = difference
    if is_personal(path, expected, found):
        raise BrokenError(sentence, field=path or "(whole record)")
    raise BrokenError(sentence, field=path, expected=expected, found=found)


def _text(key: bytes | None) -> str:
    return "nothing" if key is None else key.decode(errors="replace")


def is_personal(path: str, *values: str) -> bool:
    """Whether values that stand there in an output may be personal; all are that are objects, lists or addresses.

    Ids and codes are not (``check_personal.py``): a contact's id is told with every difference anyway.
    """
    names = path.replace("[", ".[").split(".")
    return (
        not path or not _PERSONAL.isdisjoint(names) or any(value[:1] in ("{", "[") or "@" in value for value in values)
    )


async def output_ends(log: Log) -> dict[TopicPartition, int]:
    """The ends of all topics that are made from the logs."""
    ends: dict[TopicPartition, int] = {}
    for topic in MADE_FROM:
        ends.update(await ends_of(log, topic))
    return ends

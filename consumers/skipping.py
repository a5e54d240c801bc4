"""Sets a lane's position in an input topic by hand, where the topic no longer holds what the lane has to read next.

The new position and the reason stand in the log, in a record of their own, appended on condition like any other: the
next lane goes on from there, and an audit sees who passed over what. It is never needed while all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

from consumers.lane_spec import LaneSpec
from consumers.restore import Tail
from consumers.specs import ASSIGNER, ROUTER
from events.chain import Entry, Progress, follows, link_of, seal
from events.log import FencedError, IndefiniteError, Log, LogError, TopicPartition
from events.open_log import OwnedLog
from events.records import Moment, hash_of, lane_positions, parse

REASON_CHARS_MAX: Final = 500
READ_RECORDS: Final = 2_000
LANE_OF_TOPIC: Final[Mapping[str, LaneSpec]] = {topic: spec for spec in (ROUTER, ASSIGNER) for topic in spec.decoders}

To = int | Literal["start"]


class SkipError(ValueError):
    """The position cannot be set so. ``str()`` says what to do."""


class Skipped(NamedTuple):
    """A position that was set."""

    log: TopicPartition
    offset: int  #: of the record that says so
    before: int
    position: int


async def skip(log: OwnedLog, place: TopicPartition, to: To, reason: str, *, clock: Callable[[], int]) -> Skipped:
    """Let the lane that reads ``place`` go on at ``to``; what lies between there and its position is not decided.

    Raises ``SkipError`` for what cannot be meant, and ``LogError`` while a process works at the lane's role, when
    somebody else appends meanwhile, or when the log cannot be used.
    """
    spec = _spec(place, reason)
    if await log.is_owned(spec.role):
        raise LogError(
            f"a serve works as {spec.role} on this log: stop it first. One that was killed counts on Kafka until its "
            "session has ended (10 s, or VIP_ROUTER_KAFKA_SESSION_TIMEOUT)"
        )
    where = TopicPartition(spec.log_topic, place.partition)
    tail = await _tail(log, where)
    before = tail.positions.get(place.topic)
    if before is None:
        raise SkipError(
            f"{place.topic}/{place.partition}: no lane has a position there yet: a serve begins at the start by itself"
        )
    position = await _target(log, place, to, before)
    offset = tail.end
    tail.positions[place.topic] = position
    now = Moment.at(max(clock(), tail.at_ms))
    told = {"topic": place.topic, "from": before, "to": position, "reason": reason.strip()}
    await _append(log, where, tail, lane_positions(where.topic, where.partition, offset, now, skip=told))
    return Skipped(where, offset, before, position)


def _spec(place: TopicPartition, reason: str) -> LaneSpec:
    spec = LANE_OF_TOPIC.get(place.topic)
    if spec is None:
        raise SkipError(f"TOPIC: no lane has a position in {place.topic!r}; give one of {', '.join(LANE_OF_TOPIC)}")
    if not reason.strip() or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise SkipError(f"--reason: say why in one line of up to {REASON_CHARS_MAX} characters; it stays in the log")
    return spec


async def _tail(log: Log, where: TopicPartition) -> Tail:
    """The end of a log, and what its last append says of positions and mark. Nothing is decided or checked twice."""
    tail = Tail(log_id="")
    while True:
        fetched = await log.read(where, tail.end, records_max=READ_RECORDS)
        for record in fetched.records:
            tail.log_id = tail.log_id or link_of(record).log_id
            progress = follows(record, log_id=tail.log_id, after=tail.after)
            tail.after = hash_of(record.value or b"")
            if progress is not None:
                tail.advance(progress)
        if fetched.records:
            tail.at_ms = parse(fetched.records[-1]).at_ms
        if fetched.offset_next == tail.end:
            return tail
        tail.end = fetched.offset_next


async def _target(log: Log, place: TopicPartition, to: To, before: int) -> int:
    start, end = await log.start_offset(place), await log.end_offset(place)
    position = start if to == "start" else to
    holds = f"{place.topic}/{place.partition} holds offsets {start} to {end}"
    if not start <= position <= end:
        raise SkipError(f"--to: {holds}: give start, or an offset from {start} to {end}")
    if start <= before <= end and position <= before:
        raise SkipError(
            f"--to: {holds}, and nothing is lost: a serve goes on at {before} by itself. Only an offset above that can "
            "be skipped to; what lies below was decided"
        )
    return position


async def _append(log: Log, where: TopicPartition, tail: Tail, value: bytes) -> None:
    progress = Progress(positions=tail.positions, mark=tail.mark)
    entry = Entry(b"", value, hash_of(value))
    records = seal(where, [entry], expected=tail.end, log_id=tail.log_id, after=tail.after, progress=progress)
    try:
        await log.append(where, records, expected=tail.end)
    except (FencedError, IndefiniteError) as error:
        raise LogError(
            f"{where.topic}/{where.partition}: somebody else has appended, or the log did not answer ({error}): see "
            "that no serve runs, and give the command again; done twice, it is refused"
        ) from error

"""A lost position is set by hand: the lane goes on there, the log says why, and an audit follows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import Struct

from consumers.audit.replay import replay
from consumers.audit.verify import verify
from consumers.restore import PositionError, Tail, starting_positions
from consumers.skipping import SkipError, To, skip
from events.chain import link_of
from events.log import LogError, NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
from events.topics import CONVERSATION_EVENTS, ROUTING_LOG, partition_of
from tests.audit_support import START_MS, Tampered, Town, policy

WHY = "the topic was made anew by mistake"
AFTER_MS = START_MS + 3_600_000
PARTITION = partition_of("c20", 2)
INPUT = TopicPartition(CONVERSATION_EVENTS, PARTITION)
LOG = TopicPartition(ROUTING_LOG, PARTITION)


def make_anew(tampered: Tampered) -> None:
    tp = tampered.tp(*INPUT)
    tampered.sql("DELETE FROM record WHERE tp = ?", tp)
    tampered.sql('UPDATE partition SET start = 0, "end" = 0 WHERE tp = ?', tp)


def expire(tampered: Tampered, *, up_to: int) -> None:
    tp = tampered.tp(*INPUT)
    tampered.sql('DELETE FROM record WHERE tp = ? AND "offset" < ?', tp, up_to)
    tampered.sql("UPDATE partition SET start = ? WHERE tp = ?", up_to, tp)


async def position(log: SqliteLog) -> int:
    end = await log.end_offset(LOG)
    (last,) = (await log.read(LOG, end - 1, records_max=1)).records
    progress = link_of(last).progress
    assert progress is not None
    return progress.positions[CONVERSATION_EVENTS]


async def skipped(log: SqliteLog, to: To, place: TopicPartition = INPUT, reason: str = WHY) -> Any:
    return await skip(log, place, to, reason, clock=lambda: AFTER_MS)


async def publish(log: SqliteLog, count: int) -> None:
    """Records that no lane has read, and none can use."""
    await log.publish([NewRecord(*INPUT, b"c20", b"{}") for _ in range(count)])


async def check_audits(log: SqliteLog) -> None:
    assert (await verify(log)).first_difference is None
    assert (await replay(log)).first_difference is None


def test_after_the_topic_was_made_anew_the_lane_goes_on_at_its_start(tampered: Tampered) -> None:
    """Without it no lane starts; with it, what is published is decided, and verify and replay pass."""

    async def run() -> None:
        async with SqliteLog(tampered.path) as log:
            before = await position(log)
            with pytest.raises(PositionError, match=r"topic was made anew.*topics skip conversations.events.*--to st"):
                await starting_positions(log, tail, [CONVERSATION_EVENTS], PARTITION)
            done = await skipped(log, "start")
            assert (done.before, done.position, done.log) == (before, 0, LOG)
            assert await position(log) == 0
            await check_audits(log)
            town = Town(log, {"default": policy()})
            town.now_ms = AFTER_MS + 1_000
            async with town:
                await town.tell("conversation.opened", "v20", "c20", id="new", contact={"id": "c20"})
                await town.settle()
            await check_audits(log)

    tail = Tail(log_id="x", positions={CONVERSATION_EVENTS: 1_000})
    make_anew(tampered)
    asyncio.run(run())
    assert tampered.find(ROUTING_LOG, "conversation.started", cause={
        "topic": CONVERSATION_EVENTS, "partition": PARTITION, "offset": 0, "id": "new"
    })  # fmt: skip
    (told,) = [event["data"]["skip"] for event in tampered.records(*LOG) if "skip" in event["data"]]
    assert told == {"topic": CONVERSATION_EVENTS, "from": told["from"], "to": 0, "reason": WHY}


def test_after_records_were_deleted_the_lane_goes_on_at_the_start(tampered: Tampered) -> None:
    """Offsets that expired are passed over; what is left is decided."""

    async def run() -> None:
        async with SqliteLog(tampered.path) as log:
            before = await position(log)
            await publish(log, 5)
            expire(tampered, up_to=before + 3)
            tail = Tail(log_id="x", positions={CONVERSATION_EVENTS: before})
            with pytest.raises(PositionError, match="records were deleted before they were read"):
                await starting_positions(log, tail, [CONVERSATION_EVENTS], PARTITION)
            assert (await skipped(log, "start")).position == before + 3
            await check_audits(log)

    asyncio.run(run())


def test_what_is_there_can_be_passed_over_but_not_decided_again(tampered: Tampered) -> None:
    """Forward to any offset that there is; never back while nothing is lost, and never twice."""

    async def run() -> None:
        async with SqliteLog(tampered.path) as log:
            before = await position(log)
            await publish(log, 5)
            for to in ("start", 0, before):
                with pytest.raises(SkipError, match=f"nothing is lost: a serve goes on at {before} by itself"):
                    await skipped(log, to)
            with pytest.raises(SkipError, match=f"give start, or an offset from 0 to {before + 5}"):
                await skipped(log, before + 6)
            end = await log.end_offset(LOG)
            assert await skipped(log, before + 2) == (LOG, end, before, before + 2)
            with pytest.raises(SkipError, match="nothing is lost"):
                await skipped(log, before + 2)
            await check_audits(log)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("place", "reason", "said"),
    [
        (TopicPartition("routing.log", 0), WHY, "TOPIC: no lane has a position in 'routing.log'; give one of conv"),
        (INPUT, "  ", "--reason: say why"),
        (INPUT, "x" * 501, "--reason: say why"),
        (INPUT, "two\nlines", "--reason: say why"),
    ],
)
def test_what_cannot_be_meant_is_refused(tampered: Tampered, place: TopicPartition, reason: str, said: str) -> None:
    async def run() -> None:
        async with SqliteLog(tampered.path) as log:
            end = await log.end_offset(LOG)
            with pytest.raises(SkipError, match=said):
                await skipped(log, "start", place, reason)
            assert await log.end_offset(LOG) == end

    asyncio.run(run())


def test_a_lane_that_never_worked_has_nothing_to_skip(tmp_path: Path) -> None:
    async def run() -> None:
        counts = dict.fromkeys((CONVERSATION_EVENTS, ROUTING_LOG), 2)
        async with SqliteLog(tmp_path / "new.db", create=counts) as log:
            with pytest.raises(SkipError, match="begins at the start by itself"):
                await skipped(log, "start")

    asyncio.run(run())


def test_nothing_is_set_while_a_process_has_the_role(tampered: Tampered) -> None:
    async def run() -> None:
        async with SqliteLog(tampered.path) as log, SqliteLog(tampered.path) as other:
            await publish(log, 3)
            before = await position(log)
            stop, owned = asyncio.Event(), asyncio.Event()

            async def change(_partitions: frozenset[int]) -> None:
                owned.set()

            holding = asyncio.create_task(other.own("router", 2, change, stop))
            await owned.wait()
            with pytest.raises(LogError, match="a serve works as router on this log: stop it first"):
                await skipped(log, before + 1)
            stop.set()
            await holding
            assert (await skipped(log, before + 1)).position == before + 1

    asyncio.run(run())


class Forged(Struct, frozen=True):
    """What a record of a skip may be changed to say."""

    field: str
    value: Any


@pytest.mark.parametrize("forged", [Forged("from", 1), Forged("to", 0), Forged("topic", "crm.answers")])
def test_verify_finds_a_skip_that_does_not_say_what_was_done(tampered: Tampered, forged: Forged) -> None:
    """Which topic, from where, to where: each is held against the positions around it."""

    async def run() -> Any:
        async with SqliteLog(tampered.path) as log:
            await publish(log, 3)
            done = await skipped(log, await position(log) + 1)
            event = tampered.event(*LOG, done.offset)
            event["data"]["skip"][forged.field] = forged.value
            tampered.put(*LOG, done.offset, orjson.dumps(event))
            return (await verify(log)).first_difference, done

    difference, done = asyncio.run(run())
    assert (difference.check, difference.place.offset) == ("causes", done.offset)

"""What an append and its outputs have in common: both stand, or neither does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from events.log import Appended, FencedError, Log, LogError, NewRecord, RecordTooLargeError, TopicPartition
from events.memory import MemoryLog
from events.topics import ROUTING_LOG
from tests.contract.log_checks import LOG, new, numbered, values
from tests.contract.stores import MemoryStore, Store

ONE, OTHER = TopicPartition("assignment.requests", 1), TopicPartition("conversations.replies", 3)


async def check_joined(store: Store) -> None:
    """Outputs are published with the records, in order, and by nobody who was fenced."""
    async with store.open() as log:
        if not log.joins_outputs:
            with pytest.raises(LogError):
                await log.append(LOG, numbered(LOG, 0, 1), expected=0, outputs=new(ONE, b"out"))
            return
        outputs = [*new(ONE, b"a", b"b"), *new(OTHER, b"c"), *new(ONE, b"d")]
        assert (await log.append(LOG, numbered(LOG, 0, 2), expected=0, outputs=outputs)).offset_next == 2
        with pytest.raises(FencedError):
            await log.append(LOG, numbered(LOG, 0, 2), expected=0, outputs=new(ONE, b"never"))
        with pytest.raises(LogError):
            await log.append(LOG, numbered(LOG, 2, 1), expected=2, outputs=new(TopicPartition(ROUTING_LOG, 0), b"x"))
        with pytest.raises(RecordTooLargeError):
            await log.append(LOG, numbered(LOG, 2, 1), expected=2, outputs=new(ONE, b"x" * 50_000_000))
        assert await values(log, LOG) == [b"0", b"1"]
        assert await values(log, ONE) == [b"a", b"b", b"d"]
        assert await values(log, OTHER) == [b"c"]


async def check_followed(store: Store) -> None:
    """Who follows a topic sees every output once and in order, whoever else writes there."""
    async with store.open() as log, store.open() as other:
        reader = log.reader({ONE: 0})
        for number in range(60):
            await _write(log, number)
            if number % 7 == 0:
                await other.publish(new(ONE, b"other"))
        found: list[bytes | None] = []
        async with asyncio.timeout(10):
            while len(found) < 60 + 9:
                found += [record.value for record in await reader.fetch(records_max=11, timeout_s=None)]
        await reader.close()
    assert [value for value in found if value != b"other"] == [b"%d" % number for number in range(60)]


async def _write(log: Log, number: int) -> None:
    if log.joins_outputs:
        await log.append(LOG, numbered(LOG, number, 1), expected=number, outputs=new(ONE, b"%d" % number))
    else:
        await log.publish(new(ONE, b"%d" % number))


async def test_outputs_stand_if_and_only_if_the_records_do(store: Store) -> None:
    """On every adapter that joins them; the others refuse them."""
    await check_joined(store)


async def test_the_double_joins_them_too() -> None:
    """In memory it is a choice, so that lanes can be tried both ways."""
    await check_joined(MemoryStore(make=partial(MemoryLog, joins_outputs=True)))


async def test_followers_see_each_output_once(store: Store) -> None:
    """Also where they are handed on without asking the store."""
    await check_followed(store)


class HastyLog(MemoryLog):
    """Publishes the outputs first."""

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        await self.publish(outputs)
        return await super().append(place, records, expected=expected)


class ForgetfulLog(MemoryLog):
    """Appends, and forgets the outputs."""

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),  # noqa: ARG002 - that is the fault
    ) -> Appended:
        return await super().append(place, records, expected=expected)


@pytest.mark.parametrize("fault", [HastyLog, ForgetfulLog])
async def test_a_log_that_parts_them_is_found_out(fault: type[MemoryLog]) -> None:
    """Each planted fault turns the check red."""
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        await check_joined(MemoryStore(make=partial(fault, joins_outputs=True)))

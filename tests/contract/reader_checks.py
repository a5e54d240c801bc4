"""What the log port promises of readers, one check for each promise; see ``log_checks.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from events.log import LogError, NewRecord, OffsetOutOfRangeError, Reader, StoredRecord, TopicPartition
from tests.contract.log_checks import INPUT, LOG, SNAPSHOTS, Check, new, numbered
from tests.contract.sealing import numbered_sealed, sealed
from tests.contract.stores import Store

PATIENCE_S = 20.0  #: how long something that must happen may take on a busy machine

OTHER = TopicPartition("conversations.events", 3)
THIRD = TopicPartition("crm.answers", 0)


async def fetched(reader: Reader, count: int, *, records_max: int = 1_000) -> list[StoredRecord]:
    """The next ``count`` records; fails if they do not come."""
    records: list[StoredRecord] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(records) < count:
            records += await reader.fetch(records_max=records_max, timeout_s=None)
    return records


async def fetched_up_to(reader: Reader, place: TopicPartition, end: int, *, records_max: int) -> list[StoredRecord]:
    """The records up to ``end``; fails if the position does not get there."""
    records: list[StoredRecord] = []
    async with asyncio.timeout(PATIENCE_S):
        while reader.position(place) < end:
            records += await reader.fetch(records_max=records_max, timeout_s=None)
    return records


async def begun(reader: Reader, *, records_max: int = 1_000) -> asyncio.Task[Sequence[StoredRecord]]:
    """A fetch that waits: it was given every chance to return, and had nothing to."""
    task = asyncio.ensure_future(reader.fetch(records_max=records_max, timeout_s=None))
    assert await asyncio.wait([task], timeout=0.03) == (set(), {task})
    return task


async def ended(task: asyncio.Task[Sequence[StoredRecord]]) -> list[bytes | None]:
    return [record.value for record in await asyncio.wait_for(task, PATIENCE_S)]


async def readers_follow_all_their_partitions(store: Store) -> None:
    """A reader returns every record from its positions on, per partition in order, and its positions follow."""
    async with store.open() as log:
        await log.publish(numbered(INPUT, 0, 30) + numbered(OTHER, 0, 20))
        await log.append(LOG, numbered_sealed(LOG, 0, 10), expected=0)
        reader = log.reader({INPUT: 5, OTHER: 0, LOG: 10})
        records = await fetched(reader, 45, records_max=7)
        for place, begin, end in ((INPUT, 5, 30), (OTHER, 0, 20)):
            assert [record.offset for record in records if record.place == place] == list(range(begin, end))
            assert reader.position(place) == end
        assert reader.position(LOG) == 10
        assert await reader.end_offsets() == {INPUT: 30, OTHER: 20, LOG: 10}
        await log.append(LOG, sealed(LOG, 10, b"10"), expected=10)
        assert (await reader.end_offsets())[LOG] == 11
        assert [record.value for record in await fetched(reader, 1)] == [b"10"]
        await reader.close()


async def waiting_readers_are_woken(store: Store) -> None:
    """A fetch that waits returns when a record comes, whoever wrote it."""
    async with store.open() as log, store.open() as other:
        reader = log.reader({INPUT: 0, LOG: 0})
        for turn, writer in enumerate((log, other) * 3):
            task = await begun(reader)
            await writer.publish(new(INPUT, b"%d" % turn))
            assert await ended(task) == [b"%d" % turn]
            task = await begun(reader)
            await writer.append(LOG, sealed(LOG, turn, b"%d" % turn), expected=turn)
            assert await ended(task) == [b"%d" % turn]


async def readers_do_not_disturb_each_other(store: Store) -> None:
    """Each of many readers has its own positions, and each is woken."""
    async with store.open() as log:
        readers = [log.reader({INPUT: 0, OTHER: 0}) for _ in range(8)]
        tasks = [await begun(reader) for reader in readers]
        await readers[0].close()
        with pytest.raises(LogError, match="closed"):
            await ended(tasks[0])
        await log.publish(new(INPUT, b"a"))
        for task in tasks[1:]:
            assert await ended(task) == [b"a"]
        assert [reader.position(INPUT) for reader in readers[1:]] == [1] * 7


async def time_outs_bound_the_waiting(store: Store) -> None:
    """A fetch with nothing to return ends empty after its time (0: at once), and sees what others wrote before."""
    async with store.open() as log, store.open() as other:
        reader = log.reader({INPUT: 0})
        for timeout_s in (0, 0.01):
            async with asyncio.timeout(PATIENCE_S):
                assert list(await reader.fetch(records_max=10, timeout_s=timeout_s)) == []
        for turn in range(5):
            await other.publish(new(INPUT, b"%d" % turn))
            records = await reader.fetch(records_max=10, timeout_s=0)
            assert [record.value for record in records] == [b"%d" % turn]
        with pytest.raises(ValueError, match="records_max"):
            await reader.fetch(records_max=0, timeout_s=0)


async def cancelled_fetches_lose_nothing(store: Store) -> None:
    """A fetch that is cancelled at any moment has either returned its records or left them for the next one."""
    async with store.open() as log:
        reader = log.reader({INPUT: 0, OTHER: 0})
        records: list[StoredRecord] = []
        for turn in range(120):
            await log.publish(numbered(INPUT, turn * 2, 2) + numbered(OTHER, turn, 1))
            task = asyncio.ensure_future(reader.fetch(records_max=2, timeout_s=None))
            for _ in range(turn % 9):
                await asyncio.sleep(0)
            if turn % 4 == 3:
                await log.end_offset(INPUT)  # time for a thread or a broker to answer, its length unlike each time
            task.cancel()
            await asyncio.wait([task])
            records += [] if task.cancelled() else task.result()
        records += await fetched(reader, 360 - len(records))
        assert [record.offset for record in records if record.place == INPUT] == list(range(240))
        assert [record.offset for record in records if record.place == OTHER] == list(range(120))


async def paused_partitions_wait(store: Store) -> None:
    """A paused partition gives nothing, the others go on; resumed, it goes on where it was, also for one who waits."""
    async with store.open() as log:
        reader = log.reader({INPUT: 0, OTHER: 0})
        await log.publish(numbered(INPUT, 0, 5) + numbered(OTHER, 0, 5))
        reader.pause([INPUT])
        assert {record.place for record in await fetched(reader, 5)} == {OTHER}
        assert (reader.position(INPUT), reader.position(OTHER)) == (0, 5)
        assert list(await reader.fetch(records_max=10, timeout_s=0)) == []
        task = await begun(reader)
        await log.publish(new(INPUT, b"5"))
        assert await asyncio.wait([task], timeout=0.02) == (set(), {task})
        reader.resume([INPUT])
        assert await ended(task) == [b"%d" % number for number in range(6)]


async def seeking_moves_both_ways(store: Store) -> None:
    """A reader goes on from where it was put, back or forward, also while a fetch waits or is on its way."""
    async with store.open() as log:
        await log.publish(numbered(INPUT, 0, 20))
        reader = log.reader({INPUT: 0})
        assert len(await fetched(reader, 5, records_max=5)) == 5
        reader.seek(INPUT, 2)
        assert [record.offset for record in await fetched(reader, 3, records_max=3)] == [2, 3, 4]
        reader.seek(INPUT, 15)
        assert (reader.position(INPUT), [record.offset for record in await fetched(reader, 5)]) == (
            15,
            [*range(15, 20)],
        )
        task = await begun(reader)
        reader.seek(INPUT, 18)
        assert await ended(task) == [b"18", b"19"]
        for steps in range(8):
            reader.seek(INPUT, 3)
            task = asyncio.ensure_future(reader.fetch(records_max=2, timeout_s=None))
            for _ in range(steps):
                await asyncio.sleep(0)
            already_done = task.done()
            reader.seek(INPUT, 10)
            offsets = [record.offset for record in await asyncio.wait_for(task, PATIENCE_S)]
            assert offsets == ([3, 4] if already_done else [10, 11])
            assert reader.position(INPUT) == (10 if already_done else 12)
        with pytest.raises(ValueError, match="negative"):
            reader.seek(INPUT, -1)


async def partitions_are_served_in_turn(store: Store) -> None:
    """A partition with many records does not keep the others waiting."""
    places = (INPUT, OTHER, THIRD)
    async with store.open() as log:
        for place in places:
            await log.publish(numbered(place, 0, 300))
        reader = log.reader(dict.fromkeys(places, 0))
        rounds = [await reader.fetch(records_max=10, timeout_s=0) for _ in places]
        assert {record.place for records in rounds for record in records} == set(places)
        counts = dict.fromkeys(places, 0)
        for _ in range(30):
            for record in await reader.fetch(records_max=10, timeout_s=0):
                counts[record.place] += 1
        assert min(counts.values()) >= 80, counts


async def positions_outside_a_partition_are_errors(store: Store) -> None:
    """A position above the end is an error of the fetch, not a wait for ever; put right, the reader goes on."""
    async with store.open() as log:
        await log.publish(numbered(INPUT, 0, 3) + numbered(OTHER, 0, 3))
        reader = log.reader({INPUT: 4, OTHER: 0})
        with pytest.raises(OffsetOutOfRangeError, match=r"conversations\.events/2"):
            await reader.fetch(records_max=10, timeout_s=None)
        reader.seek(INPUT, 3)
        assert {record.place for record in await fetched(reader, 3)} == {OTHER}
        assert list(await reader.fetch(records_max=10, timeout_s=0)) == []


async def readers_pass_holes(store: Store) -> None:
    """Where compaction has left no record, a reader goes on behind: its position reaches the end."""
    async with store.open() as log:
        reader = log.reader({SNAPSHOTS: 0})
        for turn in range(3):
            await log.publish([NewRecord(*SNAPSHOTS, b"k%d" % (number % 2), b"%d" % turn) for number in range(50)])
        records = await fetched_up_to(reader, SNAPSHOTS, 150, records_max=1)
        assert [(record.key, record.value, record.offset) for record in records[-2:]] == [
            (b"k0", b"2", 148),
            (b"k1", b"2", 149),
        ]
        await log.publish([NewRecord(*SNAPSHOTS, b"k%d" % (number % 2), None) for number in range(10)])
        reader.seek(SNAPSHOTS, 20)
        records = await fetched_up_to(reader, SNAPSHOTS, 160, records_max=1_000)
        assert [record.offset for record in records][-2:] == [158, 159]
        assert reader.position(SNAPSHOTS) == 160


async def a_reader_is_for_one_task(store: Store) -> None:
    """A second fetch while one is under way is refused; the first one goes on."""
    async with store.open() as log:
        reader = log.reader({INPUT: 0})
        task = await begun(reader)
        with pytest.raises(RuntimeError, match="one task"):
            await reader.fetch(records_max=1, timeout_s=0)
        await log.publish(new(INPUT, b"a"))
        assert await ended(task) == [b"a"]


async def closing_the_log_wakes_its_readers(store: Store) -> None:
    """A fetch that waits for ever ends with ``LogError`` when the log is closed."""
    async with store.open() as log:
        task = await begun(log.reader({INPUT: 0}))
        await log.close()
        with pytest.raises(LogError, match="closed"):
            await ended(task)


async def large_partitions_are_read_through(store: Store) -> None:
    """100,000 records of a partition come once each and in order, however far the reader is behind."""
    count, step = 100_000, 4_000
    async with store.open() as log:
        for begin in range(0, count, step):
            await log.append(LOG, numbered_sealed(LOG, begin, step), expected=begin)
        reader = log.reader({LOG: 0})
        records = await fetched(reader, count, records_max=2_000)
        assert [int(record.value or b"") for record in records] == list(range(count))
        middle = await log.read(LOG, 77_777, records_max=2)
        assert ([record.offset for record in middle.records], middle.offset_next) == ([77_777, 77_778], 77_779)


READER_CHECKS: tuple[Check, ...] = (
    readers_follow_all_their_partitions,
    waiting_readers_are_woken,
    readers_do_not_disturb_each_other,
    time_outs_bound_the_waiting,
    cancelled_fetches_lose_nothing,
    paused_partitions_wait,
    seeking_moves_both_ways,
    partitions_are_served_in_turn,
    positions_outside_a_partition_are_errors,
    readers_pass_holes,
    a_reader_is_for_one_task,
    closing_the_log_wakes_its_readers,
    large_partitions_are_read_through,
)

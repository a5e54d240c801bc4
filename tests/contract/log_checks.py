"""What the log port promises of writing and of reading at once, one check for each promise.

A check takes a ``Store`` and asserts; ``test_log_contract.py`` runs each over every adapter, and over broken adapters
that must fail it. Following with readers is checked in ``reader_checks.py``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain

import pytest

from events.adapter import record_bytes
from events.log import (
    FencedError,
    Log,
    LogError,
    NewRecord,
    OffsetOutOfRangeError,
    RecordTooLargeError,
    StoredRecord,
    TopicPartition,
    UnknownTopicError,
)
from events.topics import TOPICS
from tests.contract.indefinite import IndefiniteLog, Lost, append_found_out, publish_until_confirmed
from tests.contract.sealing import sealed
from tests.contract.stores import COUNTS, Store

Check = Callable[[Store], Awaitable[None]]

LOG = TopicPartition("routing.log", 1)
INPUT = TopicPartition("conversations.events", 2)
SNAPSHOTS = TopicPartition("routing.snapshots", 0)

TIMES: tuple[Lost, ...] = ("before", "after")


def new(place: TopicPartition, *values: bytes, key: bytes | None = b"k") -> list[NewRecord]:
    return [NewRecord(*place, key, value) for value in values]


def numbered(place: TopicPartition, begin: int, count: int) -> list[NewRecord]:
    return new(place, *(b"%d" % number for number in range(begin, begin + count)))


async def everything(log: Log, place: TopicPartition) -> list[StoredRecord]:
    records: list[StoredRecord] = []
    offset, end = await log.start_offset(place), await log.end_offset(place)
    while offset < end:
        found, offset = await log.read(place, offset, records_max=1_000)
        records += found
    return records


async def values(log: Log, place: TopicPartition) -> list[bytes | None]:
    return [record.value for record in await everything(log, place)]


async def append_at_the_end_takes_effect(store: Store) -> None:
    """An append at the expected end gets the next offsets, and says where the log ends now."""
    async with store.open() as log:
        first = await log.append(LOG, sealed(LOG, 0, b"a", b"b"), expected=0)
        second = await log.append(LOG, sealed(LOG, first.offset_next, b"c"), expected=first.offset_next)
        assert (first.offset_next, second.offset_next, await log.end_offset(LOG)) == (2, 3, 3)
        records = await everything(log, LOG)
        assert [(record.place, record.offset, record.value) for record in records] == [
            (LOG, 0, b"a"),
            (LOG, 1, b"b"),
            (LOG, 2, b"c"),
        ]
        assert second.time_ms == records[-1].time_ms


async def append_elsewhere_is_fenced(store: Store) -> None:
    """An append at any other offset than the end raises, names the place, and writes nothing."""
    async with store.open() as log:
        await log.append(LOG, sealed(LOG, 0, b"a", b"b"), expected=0)
        for expected in (0, 1, 3, 100):
            with pytest.raises(FencedError, match=r"routing\.log/1"):
                await log.append(LOG, sealed(LOG, expected, b"x"), expected=expected)
        end = await log.end_offset(LOG)  # a store of plain records has kept those that do not exist
        with pytest.raises(FencedError):
            await log.append(LOG, [], expected=end - 1)
        assert (await log.append(LOG, [], expected=end)).offset_next == end
        assert await values(log, LOG) == [b"a", b"b"]
        await log.append(LOG, sealed(LOG, end, b"c"), expected=end)
        assert await values(log, LOG) == [b"a", b"b", b"c"]


async def one_of_two_writers_wins_each_offset(store: Store) -> None:
    """Of two writers that expect the same end exactly one appends, and his records stand there."""
    async with store.open() as one, store.open() as two:
        for turn in range(25):
            end = await one.end_offset(LOG)
            calls = [
                log.append(LOG, sealed(LOG, end, name + b"%d" % turn), expected=end)
                for log, name in ((one, b"one"), (two, b"two"))
            ]
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            lost = [isinstance(outcome, FencedError) for outcome in outcomes]
            assert sorted(lost) == [False, True], outcomes
            written = (await one.read(LOG, end, records_max=10)).records
            assert [record.value for record in written] == [(b"two" if lost[0] else b"one") + b"%d" % turn]


async def appends_at_once_on_one_handle_are_fenced_too(store: Store) -> None:
    """Appends that are on their way together are judged one after the other."""
    async with store.open() as log:
        calls = [log.append(LOG, sealed(LOG, 0, b"%d" % number, b"-"), expected=0) for number in range(10)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        won = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
        assert len(won) == 1
        assert await values(log, LOG) == [b"%d" % won[0], b"-"]


async def append_is_atomic(store: Store) -> None:
    """Of appends that contend, each stands whole and in one piece or not at all."""
    async with store.open() as one, store.open() as two:

        async def contend(log: Log, name: bytes) -> list[bytes]:
            written = []
            for turn in range(20):
                batch = [name + b"%d.%d" % (turn, number) for number in range(7)]
                try:
                    end = await log.end_offset(LOG)
                    await log.append(LOG, sealed(LOG, end, *batch), expected=end)
                except FencedError:
                    continue
                written += batch
            return written

        async def watch() -> None:
            while True:
                assert await two.end_offset(LOG) % 7 == 0, "a part of an append is to be seen"

        watching = asyncio.ensure_future(watch())
        written = await asyncio.gather(contend(one, b"a"), contend(two, b"b"), contend(one, b"c"))
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        stand = await values(one, LOG)
        assert sorted(value for value in stand if value) == sorted(chain.from_iterable(written))
        pieces = [stand[at : at + 7] for at in range(0, len(stand), 7)]
        for piece in pieces:
            turns = {value.partition(b".")[0] for value in piece if value}
            assert len(turns) == 1, f"records of several appends are mixed: {piece}"


async def publish_keeps_the_order(store: Store) -> None:
    """Records stand in each partition in the order in which they were published."""
    other = TopicPartition("crm.answers", 0)
    async with store.open() as log:
        for turn in range(10):
            records = [
                NewRecord(*place, b"k", b"%d" % (turn * 10 + number))
                for number in range(10)
                for place in (INPUT, other)
            ]
            await log.publish(records)
        for place in (INPUT, other):
            assert await values(log, place) == [b"%d" % number for number in range(100)]
        await log.publish([])


async def what_was_written_is_seen_by_others(store: Store) -> None:
    """What one handle was acknowledged, every other one reads."""
    async with store.open() as one, store.open() as two:
        assert await two.end_offset(LOG) == 0
        await one.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        await one.publish(new(INPUT, b"b"))
        assert (await two.end_offset(LOG), await values(two, LOG), await values(two, INPUT)) == (1, [b"a"], [b"b"])
        assert (await two.append(LOG, sealed(LOG, 1, b"c"), expected=1)).offset_next == 2
        assert await one.cluster_id() == await two.cluster_id() != ""


async def records_come_back_as_they_were(store: Store) -> None:
    """Keys, values and headers are bytes that nobody interprets; none, empty and repeated ones included."""
    odd = bytes(range(256))
    records = [
        NewRecord(*INPUT, None, b"no key"),
        NewRecord(*INPUT, b"no value", None),
        NewRecord(*INPUT, None, None),
        NewRecord(*INPUT, b"", b""),
        NewRecord(*INPUT, odd, odd, (("ce_type", b"x"), ("ce_type", b"y"), ("größe", odd), ("empty", b""), ("", b"z"))),
    ]
    async with store.open() as log:
        await log.publish(records)
        found = await everything(log, INPUT)
        assert [NewRecord(*INPUT, record.key, record.value, record.headers) for record in found] == records


async def too_large_records_stop_the_whole_call(store: Store) -> None:
    """A record over its topic's limit raises with its place in the call; nothing of the call is written."""
    async with store.open() as log:
        input_limit = TOPICS[INPUT.topic].record_bytes_max
        large = new(INPUT, b"fits", b"x" * input_limit)
        with pytest.raises(RecordTooLargeError) as caught:
            await log.publish(large)
        assert (caught.value.index, caught.value.size_bytes) == (1, input_limit + 1)
        assert caught.value.limit_bytes == input_limit
        limit = TOPICS[LOG.topic].record_bytes_max
        with pytest.raises(RecordTooLargeError, match="record 2"):
            await log.append(LOG, sealed(LOG, 0, b"a", b"b", b"x" * limit), expected=0)
        assert (await log.end_offset(LOG), await log.end_offset(INPUT)) == (0, 0)
        largest = b"x" * (limit - record_bytes(sealed(LOG, 0, b"", key=None)[0]))
        await log.append(LOG, sealed(LOG, 0, largest, key=None), expected=0)
        assert await values(log, LOG) == [largest]


async def unknown_partitions_are_errors(store: Store) -> None:
    """A topic or partition that does not exist is an error of every call that names it."""
    async with store.open() as log:
        await log.publish(new(INPUT, b"a"))
        for place in (
            TopicPartition("no.such", 0),
            TopicPartition("routing.log", 4),
            TopicPartition("routing.log", -1),
        ):
            for call in _calls_on(log, place):
                with pytest.raises(UnknownTopicError):
                    await call()
        with pytest.raises(UnknownTopicError):
            await log.publish([*new(INPUT, b"b"), NewRecord("crm.answers", 9, b"k", b"x")])
        with pytest.raises(UnknownTopicError, match=r"no\.such"):
            await log.partition_count("no.such")
        assert await values(log, INPUT) == [b"a"]


def _calls_on(log: Log, place: TopicPartition) -> Sequence[Callable[[], Awaitable[object]]]:
    return (
        lambda: log.append(place, new(place, b"x"), expected=0),
        lambda: log.end_offset(place),
        lambda: log.start_offset(place),
        lambda: log.read(place, 0, records_max=1),
        lambda: log.commit("g", {place: 1}),
        lambda: log.reader({place: 0}).fetch(records_max=1, timeout_s=0),
    )


async def topics_have_the_count_they_were_made_with(store: Store) -> None:
    """Making topics again is nothing; another count is an error, and then no topic is made."""
    async with store.open() as log, store.open() as other:
        assert [await log.partition_count(topic) for topic in COUNTS] == list(COUNTS.values())
        await log.create_topics(COUNTS)
        with pytest.raises(LogError, match=r"routing\.log"):
            await log.create_topics({"brand.new": 1, "routing.log": 5})
        with pytest.raises(UnknownTopicError):
            await log.partition_count("brand.new")
        with pytest.raises(ValueError, match="partitions"):
            await log.create_topics({"brand.new": 0})
        await log.create_topics({"brand.new": 3})
        assert await other.partition_count("brand.new") == 3
        place = TopicPartition("brand.new", 2)
        await other.publish(new(place, b"a"))
        assert await values(log, place) == [b"a"]


async def each_topic_is_written_in_its_way(store: Store) -> None:
    """A log topic takes appends alone, any other one publishes alone: a stray record would break the condition."""
    async with store.open() as log:
        with pytest.raises(LogError, match="append"):
            await log.publish(new(LOG, b"x"))
        with pytest.raises(LogError, match="publish"):
            await log.append(INPUT, new(INPUT, b"x"), expected=0)
        with pytest.raises(ValueError, match="one partition"):
            await log.append(LOG, new(INPUT, b"x"), expected=0)
        assert (await log.end_offset(LOG), await log.end_offset(INPUT)) == (0, 0)


async def reading_begins_anywhere(store: Store) -> None:
    """Reading begins at any offset from the start to the end, and says where to go on."""
    async with store.open() as log:
        await log.publish(numbered(INPUT, 0, 10))
        for offset, limit, expected in ((0, 3, range(3)), (4, 3, range(4, 7)), (8, 5, range(8, 10)), (10, 5, range(0))):
            found = await log.read(INPUT, offset, records_max=limit)
            assert [record.offset for record in found.records] == list(expected)
            assert [record.value for record in found.records] == [b"%d" % number for number in expected]
            assert found.offset_next == offset + len(expected)
        for offset in (11, -1):
            with pytest.raises(OffsetOutOfRangeError, match=r"conversations\.events/2"):
                await log.read(INPUT, offset, records_max=1)
        assert await log.start_offset(INPUT) == 0


async def positions_are_kept_for_each_group(store: Store) -> None:
    """A group's positions are those that it committed last; partitions without one are absent."""
    async with store.open() as log, store.open() as other:
        await log.commit("a", {INPUT: 5, LOG: 7})
        await log.commit("a", {INPUT: 6})
        await other.commit("b", {INPUT: 1})
        places = [INPUT, LOG, SNAPSHOTS]
        assert await other.committed("a", places) == {INPUT: 6, LOG: 7}
        assert await log.committed("b", places) == {INPUT: 1}
        assert await log.committed("nobody", places) == {}
        assert await log.committed("a", [LOG]) == {LOG: 7}


async def compaction_keeps_the_last_record_of_a_key(store: Store) -> None:
    """A compacted topic drops what a later record of its key replaced; offsets stay, and reading passes the holes."""
    async with store.open() as log:
        await log.publish([NewRecord(*SNAPSHOTS, b"k%d" % (number % 3), b"%d" % number) for number in range(9)])
        await log.publish([NewRecord(*SNAPSHOTS, b"k0", None), NewRecord(*SNAPSHOTS, b"k1", b"9")])
        found = await everything(log, SNAPSHOTS)
        latest = {record.key: (record.offset, record.value) for record in found}
        assert latest == {b"k0": (9, None), b"k1": (10, b"9"), b"k2": (8, b"8")}
        assert [record.offset for record in found] == sorted({record.offset for record in found})
        assert (await log.end_offset(SNAPSHOTS), await log.start_offset(SNAPSHOTS)) == (11, 0)
        with pytest.raises(LogError, match="key"):
            await log.publish(new(SNAPSHOTS, b"x", key=None))


async def time_never_goes_backwards(store: Store) -> None:
    """Records of one partition have times that never fall, also when the clock does."""
    async with store.open() as log, store.open() as other:
        begin_ms = store.clock.now_ms
        appended = [await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)]
        for writer, offset, step_ms in ((other, 1, 5_000), (log, 2, -60_000), (other, 3, 1_000)):
            store.clock.now_ms = begin_ms + step_ms
            appended.append(await writer.append(LOG, sealed(LOG, offset, b"b"), expected=offset))
        times = [record.time_ms for record in await everything(log, LOG)]
        assert times == sorted(times) == [one.time_ms for one in appended]
        assert times[0] > 1_500_000_000_000


async def a_log_keeps_its_own_time_or_takes_this_machines(store: Store) -> None:
    """Without a clock of its own (``keeps_time``) a log's times are what this machine's says."""
    async with store.open() as log:
        done = await log.append(LOG, sealed(LOG, 0, b"a"), expected=0)
        assert (done.time_ms != store.clock.now_ms) is log.keeps_time


async def a_lost_answer_is_found_out(store: Store) -> None:
    """After ``IndefiniteError`` the end of the log tells whether the records exist: each stands exactly once."""
    async with store.open() as log:
        writer, expected = IndefiniteLog(log), 0
        for number, when in enumerate(TIMES * 3):
            writer.lose(when)
            expected = await append_found_out(writer, log, LOG, (b"%d" % number, b"%d+" % number), expected=expected)
        written = [value for number in range(6) for value in (b"%d" % number, b"%d+" % number)]
        assert await values(log, LOG) == written


async def a_publish_without_answer_is_repeated(store: Store) -> None:
    """A publish that is repeated until it is confirmed stands at least once, its records in order."""
    async with store.open() as log:
        writer = IndefiniteLog(log)
        for number, when in enumerate(TIMES):
            writer.lose(when)
            await publish_until_confirmed(writer, new(INPUT, b"%d" % number))
        assert await values(log, INPUT) == [b"0", b"1", b"1"]


async def closing_finishes_what_is_under_way(store: Store) -> None:
    """Writes that were begun are answered before ``close`` returns; later calls raise ``LogError``."""
    async with store.open() as log:
        await log.end_offset(INPUT)
        writes = [asyncio.ensure_future(log.publish(new(INPUT, b"%d" % number))) for number in range(5)]
        await writes[0]  # by now the others have begun
        await log.close()
        await log.close()
        assert await asyncio.gather(*writes) == [None] * 5
        calls: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: log.append(LOG, sealed(LOG, 0, b"x"), expected=0),
            lambda: log.publish(new(INPUT, b"x")),
            lambda: log.read(INPUT, 0, records_max=1),
            lambda: log.end_offset(INPUT),
            lambda: log.partition_count(INPUT.topic),
            lambda: log.committed("a", [INPUT]),
        )
        for call in calls:
            with pytest.raises(LogError, match="closed"):
                await call()


LOG_CHECKS: tuple[Check, ...] = (
    append_at_the_end_takes_effect,
    append_elsewhere_is_fenced,
    one_of_two_writers_wins_each_offset,
    appends_at_once_on_one_handle_are_fenced_too,
    append_is_atomic,
    publish_keeps_the_order,
    what_was_written_is_seen_by_others,
    records_come_back_as_they_were,
    too_large_records_stop_the_whole_call,
    unknown_partitions_are_errors,
    topics_have_the_count_they_were_made_with,
    each_topic_is_written_in_its_way,
    reading_begins_anywhere,
    positions_are_kept_for_each_group,
    compaction_keeps_the_last_record_of_a_key,
    time_never_goes_backwards,
    a_log_keeps_its_own_time_or_takes_this_machines,
    a_lost_answer_is_found_out,
    a_publish_without_answer_is_repeated,
    closing_finishes_what_is_under_way,
)

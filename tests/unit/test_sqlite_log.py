"""What is particular to the SQLite log: group commit, polling, waiting for others, full disks, compaction's sweep."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from events.log import IndefiniteError, LogUnavailableError, NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
from events.sqlite.reader import READ_BYTES_MAX
from events.sqlite.writer import _DELETE_EARLIER, GROUP_RECORDS_MAX, TOMBSTONE_KEPT_MS, TOMBSTONES_SWEPT_MAX

INPUT = TopicPartition("conversations.events", 0)
LOG = TopicPartition("routing.log", 0)
SNAPSHOTS = TopicPartition("routing.snapshots", 0)
OTHER_SNAPSHOTS = TopicPartition("assignments.snapshots", 0)
TOPICS = {"conversations.events": 2, "routing.log": 2, "routing.snapshots": 1, "assignments.snapshots": 1}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    async with SqliteLog(path, create=TOPICS, busy_timeout_ms=20_000) as log:
        yield log


def record(place: TopicPartition, value: bytes | None, key: bytes = b"k") -> NewRecord:
    return NewRecord(*place, key, value)


class Blocker:
    """Another process that holds the file's write lock."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self.connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self.connection.execute("ROLLBACK")
        self.connection.close()


class FailingConnection:
    """Passes everything on but COMMIT, which fails as a disk fails."""

    def __init__(self, connection: sqlite3.Connection, code: int, name: str) -> None:
        self._connection = connection
        self._failure = sqlite3.OperationalError("disk I/O error")
        self._failure.sqlite_errorcode = code
        self._failure.sqlite_errorname = name

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            raise self._failure
        return self._connection.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


async def test_calls_that_wait_together_share_a_transaction(log: SqliteLog, path: Path) -> None:
    """What came while the file was busy is written in one transaction, appends that fail among it."""
    assert log._writer is not None
    await log.end_offset(LOG)
    with Blocker(path):
        first = asyncio.ensure_future(log.publish([record(INPUT, b"first")]))
        await asyncio.sleep(0.02)  # the writing thread waits for the lock now, holding this one alone
        appends = [asyncio.ensure_future(log.append(LOG, [record(LOG, b"%d" % n)], expected=n)) for n in range(20)]
        fenced = asyncio.ensure_future(log.append(LOG, [record(LOG, b"x")], expected=7))
        publishes = [asyncio.ensure_future(log.publish([record(INPUT, b"%d" % n)])) for n in range(20)]
        await asyncio.sleep(0)
    done = await asyncio.gather(first, *appends, *publishes)
    assert [appended.offset_next for appended in done[1:21] if appended is not None] == list(range(1, 21))
    assert "the end is 20, expected was 7" in str((await asyncio.gather(fenced, return_exceptions=True))[0])
    assert log._writer.transactions <= 2
    assert [each.value for each in (await log.read(INPUT, 0, records_max=99)).records] == [
        b"first",
        *(b"%d" % n for n in range(20)),
    ]


async def test_a_transaction_is_bounded(log: SqliteLog, path: Path) -> None:
    """However many records wait, one transaction takes a bounded number of them."""
    assert log._writer is not None
    await log.end_offset(LOG)
    with Blocker(path):
        batch = [record(INPUT, b"x")] * (GROUP_RECORDS_MAX // 2)
        writes = [asyncio.ensure_future(log.publish(batch)) for _ in range(8)]
        await asyncio.sleep(0.01)
    await asyncio.gather(*writes)
    assert log._writer.transactions >= 4
    assert await log.end_offset(INPUT) == 8 * len(batch)


async def test_a_write_cancelled_before_its_turn_is_not_written(log: SqliteLog, path: Path) -> None:
    """A call that is given up while it still waits leaves nothing."""
    await log.end_offset(LOG)
    with Blocker(path):
        first = asyncio.ensure_future(log.publish([record(INPUT, b"a")]))
        await asyncio.sleep(0.02)  # the writing thread has taken it
        second = asyncio.ensure_future(log.publish([record(INPUT, b"b")]))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait([second])
    await first
    await log.publish([record(INPUT, b"c")])
    assert [each.value for each in (await log.read(INPUT, 0, records_max=9)).records] == [b"a", b"c"]


async def test_a_full_disk_writes_nothing_by_halves(log: SqliteLog) -> None:
    """When the file cannot grow the call raises, none of it stands, and with room again the log goes on."""
    assert log._writer is not None
    await log.append(LOG, [record(LOG, b"a")], expected=0)
    connection = log._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    large = [record(LOG, b"x" * 5_000) for _ in range(50)]
    with pytest.raises(LogUnavailableError, match=r"no room to grow.*free space"):
        await log.append(LOG, large, expected=1)
    assert await log.end_offset(LOG) == 1
    assert len((await log.read(LOG, 0, records_max=99)).records) == 1
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await log.append(LOG, large, expected=1)).offset_next == 51


@pytest.mark.parametrize(
    ("name", "expected"), [("SQLITE_IOERR_FSYNC", IndefiniteError), ("SQLITE_IOERR_WRITE", LogUnavailableError)]
)
async def test_a_commit_that_fails_says_what_is_known(log: SqliteLog, name: str, expected: type[Exception]) -> None:
    """If writing failed nothing stands; if ``fsync`` failed nobody can say. Then the log goes on."""
    assert log._writer is not None
    real = log._writer._connection
    log._writer._connection = FailingConnection(real, getattr(sqlite3, name), name)  # type: ignore[assignment]
    with pytest.raises(expected, match=name):
        await log.append(LOG, [record(LOG, b"a")], expected=0)
    log._writer._connection = real
    assert await log.end_offset(LOG) == 0
    assert (await log.append(LOG, [record(LOG, b"b")], expected=0)).offset_next == 1


async def test_nothing_is_polled_while_nobody_waits(log: SqliteLog) -> None:
    """The file is looked at for changes while a fetch waits, by one thread for all readers, and not otherwise."""
    await log.publish([record(INPUT, b"a")])
    await asyncio.sleep(0.03)
    assert log._reader.polls == 0
    readers = [log.reader({INPUT: 1}) for _ in range(20)]
    fetches = [asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=None)) for reader in readers]
    while log._reader.polls < 30:  # noqa: ASYNC110  # the thread counts; that it does not stop is what is looked at
        await asyncio.sleep(0.005)
    await log.publish([record(INPUT, b"b")])
    await asyncio.gather(*fetches)
    await asyncio.sleep(0.02)
    after = log._reader.polls
    await asyncio.sleep(0.05)
    assert log._reader.polls == after
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("vip-router-log")]
    assert sorted(names) == ["vip-router-log-reader", "vip-router-log-writer"]


async def test_closing_ends_the_threads_and_the_journal(path: Path) -> None:
    """After closing only the one file is left, and no thread."""
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([record(INPUT, b"a")])
        threads = [thread for thread in threading.enumerate() if thread.name.startswith("vip-router-log")]
    for thread in threads:
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


async def test_a_fetch_is_bounded_in_bytes(log: SqliteLog) -> None:
    """A fetch of many large records returns some of them: an answer has a bounded size, not only a bounded count."""
    value = b"x" * 1_000_000
    for offset in range(0, 40, 10):
        await log.append(LOG, [record(LOG, value)] * 10, expected=offset)
    reader = log.reader({LOG: 0})
    counts = []
    while reader.position(LOG) < 40:
        counts.append(len(await reader.fetch(records_max=1_000, timeout_s=0)))
    assert sum(counts) == 40
    assert max(counts) == READ_BYTES_MAX // len(value) + 1
    found = await log.read(LOG, 0, records_max=1_000)
    assert (len(found.records), found.offset_next) == (max(counts), max(counts))


async def test_old_tombstones_are_swept(path: Path) -> None:
    """A tombstone stays for a day, then later writes remove it, a few at a time; offsets stay."""
    now_ms = 1_780_000_000_000
    async with SqliteLog(path, create=TOPICS, clock_ms=lambda: now_ms) as log:
        keys = [b"k%d" % number for number in range(TOMBSTONES_SWEPT_MAX + 10)]
        await log.publish([record(SNAPSHOTS, b"v", key) for key in keys])
        await log.publish([record(SNAPSHOTS, None, key) for key in keys])
        left = []
        for wait_ms in (TOMBSTONE_KEPT_MS, 1, 0):
            now_ms += wait_ms
            await log.publish([record(SNAPSHOTS, b"v", b"other")])
            found = await log.read(SNAPSHOTS, 0, records_max=1_000)
            left.append(sum(each.value is None for each in found.records))
        assert left == [len(keys), 10, 0]
        assert (found.records[0].offset, found.offset_next) == (2 * len(keys) + 2, 2 * len(keys) + 3)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM latest").fetchone() == (1,)


async def test_tombstones_are_swept_as_fast_as_they_come(path: Path) -> None:
    """A snapshot deletes as many keys as it writes, in few transactions: a day's worth is all that stands there."""
    now_ms = 1_780_000_000_000
    count = 5 * TOMBSTONES_SWEPT_MAX
    async with SqliteLog(path, create=TOPICS, clock_ms=lambda: now_ms) as log:
        for day in range(4):
            await log.publish([record(SNAPSHOTS, None, b"%d-%d" % (day, number)) for number in range(count)])
            now_ms += TOMBSTONE_KEPT_MS + 1
            found = await log.read(SNAPSHOTS, 0, records_max=10_000)
            assert len(found.records) == count


async def test_a_reader_passes_a_swept_end(path: Path) -> None:
    """When a partition's last records were swept away, reading still reaches the end."""
    now_ms = 1_780_000_000_000
    async with asyncio.timeout(20), SqliteLog(path, create=TOPICS, clock_ms=lambda: now_ms) as log:
        await log.publish([record(SNAPSHOTS, b"v", b"a"), record(SNAPSHOTS, None, b"b"), record(SNAPSHOTS, None, b"c")])
        now_ms += TOMBSTONE_KEPT_MS + 1
        await log.publish([record(OTHER_SNAPSHOTS, b"v")])
        reader = log.reader({SNAPSHOTS: 0})
        assert [each.value for each in await reader.fetch(records_max=10, timeout_s=0)] == [b"v"]
        assert list(await reader.fetch(records_max=10, timeout_s=0)) == []
        assert reader.position(SNAPSHOTS) == await log.end_offset(SNAPSHOTS) == 3
        assert await log.read(SNAPSHOTS, 1, records_max=10) == ([], 3)


async def test_own_writes_wake_without_a_look_at_the_file(path: Path) -> None:
    """Who waits in the process that writes is woken by the commit itself."""
    async with SqliteLog(path, create=TOPICS, poll_interval_ms=3_600_000) as log:
        reader = log.reader({INPUT: 0})
        fetch = asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=None))
        while log._reader.polls < 2:  # noqa: ASYNC110  # one look before it waits, one as it begins to
            await asyncio.sleep(0.002)
        await log.publish([record(INPUT, b"a")])
        assert [each.value for each in await asyncio.wait_for(fetch, 20)] == [b"a"]
        assert log._reader.polls == 2


async def test_compaction_never_scans_a_table(log: SqliteLog) -> None:
    """Replacing a key's record looks it up; SQLite would scan if the statement were written otherwise."""
    assert log._writer is not None
    sql = "WITH written (tp, key) AS (VALUES (?, ?), (?, ?))" + _DELETE_EARLIER
    plan = [row[3] for row in log._writer._connection.execute(f"EXPLAIN QUERY PLAN {sql}", (1, b"a", 2, b"b"))]
    assert any("SEARCH record USING PRIMARY KEY (tp=? AND offset=?)" in step for step in plan), plan
    assert any("SEARCH latest USING PRIMARY KEY (tp=? AND key=?)" in step for step in plan), plan


async def test_a_failed_look_reaches_who_waits(log: SqliteLog) -> None:
    """When looking for changes fails, a fetch that waits is told instead of waiting for ever."""
    reader = log.reader({INPUT: 0})
    fetch = asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=None))
    while log._reader.polls < 3:  # noqa: ASYNC110  # it waits now
        await asyncio.sleep(0.002)
    log._reader._connection.set_progress_handler(lambda: 1, 1)
    log._reader._version = -1
    with pytest.raises(LogUnavailableError, match="SQLITE_INTERRUPT"):
        await asyncio.wait_for(fetch, 20)
    log._reader._connection.set_progress_handler(None, 1)

"""What a SQLite log makes of records that somebody else has changed: an error of the port in a log, else a stand-in."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from events.adapter import UNREADABLE
from events.cloudevents import BadInputError, open_envelope
from events.log import DamagedLogError, LogUnavailableError, NewRecord, StoredRecord, TopicPartition
from events.sqlite.log import SqliteLog

INPUT = TopicPartition("conversations.events", 0)
LOG = TopicPartition("routing.log", 0)
TOPICS = {INPUT.topic: 1, LOG.topic: 1}
HEADERS = (("expected-offset", b"0"), ("log-id", b"l"))

DAMAGES = {
    "headers that lost a byte": ("headers = substr(headers, 1, length(headers) - 1)", "its headers are damaged"),
    "headers that are a number in msgpack": ("headers = x'07'", "its headers are damaged"),
    "headers as text": ("headers = CAST(headers AS TEXT)", "its headers are stored as text"),
    "a value as text": ("value = CAST(value AS TEXT)", "its value is stored as text"),
    "a value as text that is no UTF-8": ("value = CAST(x'ff00fe' AS TEXT)", "its value is stored as text"),
    "a value as a number": ("value = 5", "its value is stored as integer"),
    "a key as text": ("key = CAST(key AS TEXT)", "its key is stored as text"),
    "a key as a number": ("key = 1.5", "its key is stored as real"),
    "a time as text": ("time_ms = 'noon'", "its time is stored as text"),
    "a time as bytes": ("time_ms = x'00'", "its time is stored as blob"),
}
damaged = pytest.mark.parametrize(("what", "why"), DAMAGES.values(), ids=DAMAGES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
async def log(path: Path) -> AsyncIterator[SqliteLog]:
    """Six records in a log and in an input topic."""
    async with SqliteLog(path, create=TOPICS, clock_ms=lambda: 1_000) as log:
        await log.append(LOG, [record(LOG, n) for n in range(6)], expected=0)
        await log.publish([record(INPUT, n) for n in range(6)])
        yield log


def record(place: TopicPartition, number: int) -> NewRecord:
    return NewRecord(*place, b"k%d" % number, b"v%d" % number, HEADERS)


def change(path: Path, place: TopicPartition, offset: int, what: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        tp = "(SELECT first + ? FROM topic WHERE name = ?)"
        changed = connection.execute(
            f'UPDATE record SET {what} WHERE tp = {tp} AND "offset" = ?', (place.partition, place.topic, offset)
        )
        assert changed.rowcount == 1


@damaged
async def test_a_log_is_read_up_to_the_damage_and_then_raises(log: SqliteLog, path: Path, what: str, why: str) -> None:
    """The records before it come first, so that whoever reads in order finds what is wrong before it first."""
    change(path, LOG, 3, what)
    fetched = await log.read(LOG, 0, records_max=100)
    assert ([each.offset for each in fetched.records], fetched.offset_next) == ([0, 1, 2], 3)
    with pytest.raises(
        DamagedLogError, match=rf"^routing\.log/0 at offset 3: {why}: the file was changed or damaged"
    ) as e:
        await log.read(LOG, 3, records_max=100)
    assert (e.value.place, e.value.offset, e.value.retriable) == (LOG, 3, False)
    assert [each.offset for each in (await log.read(LOG, 4, records_max=100)).records] == [4, 5]


@damaged
async def test_any_other_topic_has_a_record_that_stands_for_it(log: SqliteLog, path: Path, what: str, why: str) -> None:
    """As for a damaged batch on Kafka: decoding it refuses it as unreadable, and reading goes on."""
    change(path, INPUT, 3, what)
    found: list[StoredRecord] = []
    offset = 0
    while offset < 6:
        fetched = await log.read(INPUT, offset, records_max=100)
        found += fetched.records
        offset = fetched.offset_next
    assert [(each.offset, each.value) for each in found] == [
        (number, None if number == 3 else b"v%d" % number) for number in range(6)
    ]
    bad = found[3]
    assert (bad.key, bad.time_ms) == (None, 0 if "time" in why else 1_000)
    assert bad.headers == ((UNREADABLE, f"the record at offset 3 cannot be read: {why}".encode()),)
    with pytest.raises(BadInputError, match=why) as refused:
        open_envelope(bad.value, bad.headers)
    assert refused.value.reason == "unreadable"


@pytest.mark.parametrize("damaged_offsets", [[0], [5], [2, 3], [0, 1, 2, 3, 4, 5]])
async def test_a_reader_follows_past_the_damage_of_an_input(
    path: Path, log: SqliteLog, damaged_offsets: list[int]
) -> None:
    for offset in damaged_offsets:
        change(path, INPUT, offset, "headers = x'91'")
    reader = log.reader({INPUT: 0})
    found: list[StoredRecord] = []
    while len(found) < 6:
        found += await reader.fetch(records_max=4, timeout_s=0)
    assert [each.offset for each in found] == list(range(6))
    assert [each.offset for each in found if each.headers[0][0] == UNREADABLE] == damaged_offsets
    assert reader.position(INPUT) == 6
    await reader.close()


async def test_a_reader_stays_before_the_damage_of_a_log(path: Path, log: SqliteLog) -> None:
    change(path, LOG, 2, "headers = x'91'")
    reader = log.reader({LOG: 0})
    assert [each.offset for each in await reader.fetch(records_max=9, timeout_s=0)] == [0, 1]
    for _ in range(2):
        with pytest.raises(DamagedLogError, match="offset 2"):
            await reader.fetch(records_max=9, timeout_s=0)
    assert reader.position(LOG) == 2
    await reader.close()


async def test_an_error_of_sqlite_is_no_damage_of_a_record(path: Path, log: SqliteLog) -> None:
    """What SQLite itself cannot read stays an error of the store."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("ALTER TABLE record RENAME TO gone")
    with pytest.raises(LogUnavailableError):
        await log.read(INPUT, 0, records_max=9)

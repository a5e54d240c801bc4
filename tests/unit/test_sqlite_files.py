"""Opening a SQLite log: what is made, what is refused, and that a refusal says what to do and changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from events.log import LogError, LogUnavailableError, NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
from events.sqlite.schema import APPLICATION_ID, SCHEMA_VERSION

PLACE = TopicPartition("conversations.events", 0)
TOPICS = {"conversations.events": 2, "routing.log": 2}
NOBODY = 65534


async def filled(path: Path, count: int = 3) -> str:
    """Make a log with records; returns its cluster id."""
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([NewRecord(*PLACE, b"k", b"%d" % number) for number in range(count)])
        return await log.cluster_id()


def refused(path: Path, *, create: dict[str, int] | None = None, read_only: bool = False) -> str:
    """Why the log cannot be opened."""
    with pytest.raises(LogUnavailableError) as caught:
        SqliteLog(path, create=create, read_only=read_only, busy_timeout_ms=50)
    return str(caught.value)


def allow(path: Path, mode: int) -> None:
    path.chmod(mode)


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can look into, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions bind; root passes over them."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


async def test_a_new_file_is_marked_and_durable(tmp_path: Path) -> None:
    """The file says whose it is and which schema it has; commits go through fsync into a write-ahead log."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS) as log:
        assert log._writer is not None
        connection = log._writer._connection
        pragmas = ("application_id", "user_version", "journal_mode", "synchronous")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
        assert found == [APPLICATION_ID, SCHEMA_VERSION, "wal", 2]


async def test_the_cluster_id_stays_with_the_file(tmp_path: Path) -> None:
    """Every opening of a file, and a copy of it, has the same id; another file has another."""
    first = await filled(tmp_path / "a.db")
    second = await filled(tmp_path / "b.db")
    shutil.copy(tmp_path / "a.db", tmp_path / "copy.db")
    for name in ("a.db", "copy.db"):
        async with SqliteLog(tmp_path / name) as log:
            assert await log.cluster_id() == first != second
            assert await log.end_offset(PLACE) == 3


async def test_four_can_make_the_file_at_once(tmp_path: Path) -> None:
    """Processes that start together make one log."""
    opened = await asyncio.gather(*(asyncio.to_thread(SqliteLog, tmp_path / "log.db", create=TOPICS) for _ in range(4)))
    assert len({await log.cluster_id() for log in opened}) == 1
    for log in opened:
        await log.close()


async def test_a_file_that_becomes_a_log_while_it_is_looked_at_is_no_foreign_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What tells a new file from a foreign one is read at one moment."""
    path = tmp_path / "log.db"
    maker = threading.Thread(target=lambda: asyncio.run(filled(path)))

    class Interrupted(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "PRAGMA user_version" and not maker.ident:
                maker.start()
                maker.join(0.5)  # it has made the log, or waits for us
            return super().execute(sql, *parameters)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Interrupted))
    async with SqliteLog(path, create=TOPICS) as log:
        await asyncio.to_thread(maker.join)
        assert await log.end_offset(PLACE) == 3


async def test_odd_file_names_work(tmp_path: Path) -> None:
    """A file name with characters that mean something in a URI is only a name."""
    path = tmp_path / "a log?mode=ro#1 %41 é.db"
    await filled(path)
    assert path.exists()


async def test_people_can_look_at_the_records(tmp_path: Path) -> None:
    """The view ``records`` shows topic, partition, offset, time and text."""
    await filled(tmp_path / "log.db", count=1)
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        row = connection.execute("SELECT topic, partition, offset, key, value FROM records").fetchone()
        assert row == ("conversations.events", 0, 0, "k", "0")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder is not a log."""
    assert "is a folder: name a file in it" in refused(tmp_path, create=TOPICS)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """Folders are not made: a slip of the pen would make one."""
    assert "folder" in refused(tmp_path / "none" / "log.db", create=TOPICS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_a_missing_file_is_not_made_unasked(tmp_path: Path, *, read_only: bool) -> None:
    """Who only wants to read or publish gets no new, empty log."""
    assert "there is no log" in refused(tmp_path / "log.db", read_only=read_only)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_an_empty_file_is_no_log(tmp_path: Path, *, read_only: bool) -> None:
    """An empty file is made a log only for who wants to make one."""
    path = tmp_path / "log.db"
    path.touch()
    assert "is empty, not a log" in refused(path, read_only=read_only)
    assert path.stat().st_size == 0


@pytest.mark.parametrize("create", [None, TOPICS])
def test_another_programs_database_is_left_alone(tmp_path: Path, create: dict[str, int] | None) -> None:
    """A SQLite file of somebody else is refused, byte for byte unchanged."""
    path = tmp_path / "places.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmark (name TEXT)")
        connection.commit()
    before = path.read_bytes()
    assert "another program's" in refused(path, create=create)
    assert path.read_bytes() == before
    assert names(tmp_path) == [path.name]


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """A text file is refused, unchanged."""
    path = tmp_path / "notes.txt"
    path.write_text("buy milk\n" * 500)
    assert "is not a log" in refused(path, create=TOPICS)
    assert path.read_text() == "buy milk\n" * 500


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer program is not touched by an older one."""
    path = tmp_path / "log.db"
    await filled(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for read_only in (False, True):
        assert f"schema {SCHEMA_VERSION + 1}" in refused(path, read_only=read_only)


async def test_a_damaged_file_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    """Damage is told as such when it is met, on opening or on reading, and is not mistaken for an empty log."""
    path = tmp_path / "log.db"
    await filled(path, count=2_000)
    content = bytearray(path.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(LogUnavailableError, match="damaged"):
        async with SqliteLog(path) as log:
            await log.read(PLACE, 0, records_max=10)


async def test_topics_with_another_count_are_refused(tmp_path: Path) -> None:
    """Opening with other partition counts raises, and leaves the file as it is."""
    path = tmp_path / "log.db"
    await filled(path)
    with pytest.raises(LogError, match=r"routing\.log exists with 2 partitions, not 3"):
        SqliteLog(path, create={"brand.new": 1, "routing.log": 3})
    async with SqliteLog(path) as log:
        with pytest.raises(LogError, match=r"brand\.new"):
            await log.partition_count("brand.new")


async def test_reading_needs_no_right_to_write(open_folder: Path) -> None:
    """A log in a folder that may not be written is read, and every write is refused with a sentence."""
    path = open_folder / "log.db"
    await filled(path)
    allow(path, 0o644)
    with unprivileged():
        if os.geteuid() != NOBODY:
            allow(open_folder, 0o555)
        reason = refused(path)
        assert "writable" in reason
        assert str(path) in reason
        async with SqliteLog(path, read_only=True) as log:
            assert [record.value for record in (await log.read(PLACE, 0, records_max=9)).records] == [b"0", b"1", b"2"]
            with pytest.raises(LogError, match="read only"):
                await log.publish([NewRecord(*PLACE, b"k", b"x")])
            with pytest.raises(LogError, match="read only"):
                await log.commit("g", {PLACE: 1})
    assert names(open_folder) == ["log.db"]


async def test_a_file_that_may_not_be_written_is_refused(open_folder: Path) -> None:
    """A read-only file is told on opening, not at the first record."""
    path = open_folder / "log.db"
    await filled(path)
    allow(path, 0o444)
    allow(open_folder, 0o777)
    with unprivileged():
        assert "writable" in refused(path, create=TOPICS)


async def test_a_file_that_may_not_be_read_is_refused(open_folder: Path) -> None:
    """A file of somebody else's is told as such."""
    path = open_folder / "log.db"
    await filled(path)
    allow(path, 0o000)
    with unprivileged():
        assert "cannot be opened" in refused(path, read_only=True)


async def test_a_reader_that_may_not_write_follows_a_writer(tmp_path: Path) -> None:
    """``tail --follow`` on a log that is being written sees what comes."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS) as writer, SqliteLog(path, read_only=True) as log:
        reader = log.reader({PLACE: 0})
        fetch = asyncio.ensure_future(reader.fetch(records_max=10, timeout_s=20))
        await writer.publish([NewRecord(*PLACE, b"k", b"x")])
        assert [record.value for record in await fetch] == [b"x"]


def test_read_only_and_create_exclude_each_other(tmp_path: Path) -> None:
    """Asking for both is a fault of the caller."""
    with pytest.raises(ValueError, match="read_only"):
        SqliteLog(tmp_path / "log.db", create=TOPICS, read_only=True)

"""The log's file as others see it: who may read it, by which names, and whether it is still where it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from consumers.telemetry.readings import read_answer
from events.log import LogError, NewRecord, TopicPartition
from events.memory import MemoryLog
from events.sqlite.file import LOOK_INTERVAL_S, Whereabouts
from events.sqlite.log import SqliteLog
from events.sqlite.schema import _has_journal

INPUT = TopicPartition("conversations.events", 0)
LOG = TopicPartition("routing.log", 0)
TOPICS = {"conversations.events": 2, "routing.log": 2}
RECORD = NewRecord(*INPUT, b"k", b"v")
PATIENCE_S = 20
WITH = ", with all addresses and messages"
MOVED = "was moved or replaced while it is in use.*put it back"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can look into, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def allow(path: Path, mode: int) -> None:
    path.chmod(mode)


def make_empty(path: Path, mode: int) -> None:
    path.unlink()
    path.touch(mode)


def modes(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


async def sentences(path: Path) -> list[str]:
    async with SqliteLog(path, create=TOPICS) as log:
        found = await log.flaws()
        assert not any(flaw.is_fatal for flaw in found)
        return [flaw.sentence for flaw in found]


# --- who may read it ---


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
async def test_what_is_made_is_its_owners_alone(path: Path, mask: int) -> None:
    """Log, journals and lock files can be read and written by their owner only, whatever the umask."""
    with umask(mask):
        async with SqliteLog(path, create=TOPICS) as log, log.lock("router"):
            await log.publish([RECORD])
            names = ("log.db", "log.db-wal", "log.db-shm", "log.db.router.lock")
            assert modes(path.parent) == dict.fromkeys(names, 0o600)
        assert os.umask(mask) == mask


async def test_a_link_to_nothing_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """So is a file that a symbolic link names before it is there."""
    (tmp_path / "link.db").symlink_to(tmp_path / "log.db")
    async with SqliteLog(tmp_path / "link.db", create=TOPICS) as log:
        await log.publish([RECORD])
    assert modes(tmp_path)["log.db"] == 0o600


async def test_a_file_that_exists_keeps_its_mode(path: Path) -> None:
    """Who shares a log on purpose goes on doing so; journals have the file's mode."""
    async with SqliteLog(path, create=TOPICS):
        pass
    allow(path, 0o640)
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([RECORD])
        assert modes(path.parent) == {"log.db": 0o640, "log.db-wal": 0o640, "log.db-shm": 0o640}
    make_empty(path, 0o640)
    async with SqliteLog(path, create=TOPICS):
        assert modes(path.parent)["log.db"] == 0o640, "an empty file was put there for us"


async def test_a_file_that_everybody_can_read_is_told(open_folder: Path) -> None:
    """A log that others can read is a flaw that names the command; one that they cannot get at is none."""
    path = open_folder / "log.db"
    assert await sentences(path) == []
    for mode, is_told in ((0o644, True), (0o606, True), (0o660, False), (0o600, False)):
        allow(path, mode)
        told = await sentences(path)
        assert len(told) == is_told, mode
        assert not is_told or f"can be read by everybody on this machine{WITH}: chmod 600 {path.resolve()}*" in told[0]
    allow(path, 0o644)
    allow(open_folder, 0o750)
    assert await sentences(path) == []


async def test_a_file_with_two_names_is_told(path: Path) -> None:
    """SQLite's journals go by the name: two hard links of one file in use at once would damage it."""
    assert await sentences(path) == []
    os.link(path, path.with_name("other.db"))
    (told,) = await sentences(path)
    assert "has 2 names (hard links)" in told


async def test_other_logs_have_no_file() -> None:
    """The log in memory has no such flaws."""
    assert await MemoryLog(cluster_id="x", clock_ms=lambda: 0).flaws() == ()


async def test_a_role_is_owned_by_file_and_not_by_name(tmp_path: Path) -> None:
    """Who opens a log through a symbolic link finds its roles taken."""
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "log.db", tmp_path / "link.db"
    link.symlink_to(path)
    async with SqliteLog(path, create=TOPICS) as log, SqliteLog(link) as other:
        async with log.lock("router"):
            assert await other.is_owned("router")
        assert not await other.is_owned("router")
    assert "link.db.router.lock" not in modes(tmp_path)


async def test_the_journal_of_a_link_stands_beside_the_file(tmp_path: Path) -> None:
    """Where a folder may not be written, what a crash left in the journal is not passed over because of a link."""
    (tmp_path / "folder").mkdir()
    path, link = tmp_path / "folder" / "log.db", tmp_path / "link.db"
    link.symlink_to(path)
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([RECORD])
        assert _has_journal(link)
    assert not _has_journal(link)


# --- whether it is still there ---


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace(path: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(path.with_name("copy.db"))) as copy:
        source.backup(copy)
    path.with_name("copy.db").rename(path)


def remove(path: Path) -> None:
    path.unlink()


CALLS: dict[str, Callable[[SqliteLog], Awaitable[object]]] = {
    "append": lambda log: log.append(LOG, [NewRecord(*LOG, b"k", b"v")], expected=0),
    "publish": lambda log: log.publish([RECORD]),
    "commit": lambda log: log.commit("g", {INPUT: 1}),
    "end_offset": lambda log: log.end_offset(LOG),
    "start_offset": lambda log: log.start_offset(LOG),
}


def settle(log: SqliteLog) -> None:
    """Pass over the time for which a look is good."""
    assert log._writer is not None
    for whereabouts in (log._writer._whereabouts, log._reader.whereabouts):
        whereabouts._good_until_s = 0.0


@pytest.mark.parametrize("change", [move, replace, remove])
@pytest.mark.parametrize("call", CALLS)
async def test_a_file_that_was_moved_or_replaced_is_told(path: Path, change: Callable[[Path], None], call: str) -> None:
    """Writes and questions for a partition's ends say so instead of going on, and nothing is written."""
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([RECORD])
        change(path)
        settle(log)
        for _ in range(2):
            with pytest.raises(LogError, match=MOVED) as caught:
                await CALLS[call](log)
            assert not caught.value.retriable, "the same call would never succeed"


async def test_readiness_says_that_the_file_was_moved(path: Path) -> None:
    """The probe asks for an end, and passes the sentence on."""
    async with SqliteLog(path, create=TOPICS) as log:
        assert (await read_answer(log)).log_answers
        move(path)
        reading = await read_answer(log)
        assert not reading.log_answers
        assert "put it back" in (reading.why_not or "")


async def test_a_file_that_was_put_back_goes_on(path: Path) -> None:
    """Nothing was lost of it."""
    async with SqliteLog(path, create=TOPICS) as log:
        move(path)
        settle(log)
        with pytest.raises(LogError, match=MOVED):
            await log.publish([RECORD])
        path.with_name("moved.db").rename(path)
        await log.publish([RECORD])
        assert await log.end_offset(INPUT) == 1


async def test_who_only_waits_is_told_that_the_file_was_moved(path: Path) -> None:
    """A reader that waits for records is told, too: none would ever come."""
    async with SqliteLog(path, create=TOPICS) as log:
        reader = log.reader({INPUT: 0})
        fetch = asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=None))
        await log.publish([RECORD])
        await asyncio.wait_for(fetch, PATIENCE_S)
        fetch = asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=None))
        await asyncio.sleep(0)
        move(path)
        with pytest.raises(LogError, match=MOVED):
            await asyncio.wait_for(fetch, PATIENCE_S)


async def test_a_changed_link_counts_as_replaced(tmp_path: Path) -> None:
    """A symbolic link that leads elsewhere now leads to another log."""
    path, link = tmp_path / "log.db", tmp_path / "link.db"
    link.symlink_to(path)
    async with SqliteLog(link, create=TOPICS) as log:
        link.unlink()
        link.symlink_to(tmp_path / "elsewhere.db")
        settle(log)
        with pytest.raises(LogError, match=MOVED):
            await log.publish([RECORD])


def test_the_file_is_looked_at_seldom(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is good for a while; after one that has failed the next one is taken at once."""
    path.touch()
    now_s, looks = 100.0, 0
    stat_of = os.stat

    def counted(*arguments: object, **options: object) -> os.stat_result:
        nonlocal looks
        looks += 1
        return stat_of(*arguments, **options)  # type: ignore[arg-type]

    whereabouts = Whereabouts(path, clock=lambda: now_s)
    monkeypatch.setattr("events.sqlite.file.os.stat", counted)
    whereabouts.check()
    for _ in range(1_000):
        whereabouts.check()
    assert looks == 1
    now_s += LOOK_INTERVAL_S
    whereabouts.check()
    assert looks == 2
    now_s += LOOK_INTERVAL_S
    move(path)
    for _ in range(3):
        with pytest.raises(LogError, match=MOVED):
            whereabouts.check()

"""A SQLite log while another program holds its file's write lock: who waits, who is told, and who need not wait."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consumers.telemetry.readings import read_answer
from events.log import LogUnavailableError, NewRecord, TopicPartition
from events.sqlite.lock_wait import SLICE_MS, WARN_AFTER_S, WARN_INTERVAL_S, LockWait
from events.sqlite.log import SqliteLog

INPUT = TopicPartition("conversations.events", 0)
LOG = TopicPartition("routing.log", 0)
TOPICS = {"conversations.events": 2, "routing.log": 2}
PATIENCE_S = 20
NEVER_MS = 3_600_000


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program has the file's write lock."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110  # the thread tells nobody
            await asyncio.sleep(0.005)


def waits(log: SqliteLog) -> bool:
    assert log._writer is not None
    return log._writer.wait.waited_s > 0


def record(place: TopicPartition, value: bytes) -> NewRecord:
    return NewRecord(*place, b"k", value)


async def test_a_write_waits_until_the_lock_is_let_go(tmp_path: Path) -> None:
    """Appends, publishes and commits wait for longer than opening may, then they are written."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS, busy_timeout_ms=30) as log:
        with held(path):
            calls = [
                asyncio.ensure_future(log.append(LOG, [record(LOG, b"a")], expected=0)),
                asyncio.ensure_future(log.publish([record(INPUT, b"b")])),
                asyncio.ensure_future(log.commit("g", {INPUT: 1})),
            ]
            assert log._writer is not None
            wait = log._writer.wait
            await until(lambda: wait.waited_s > 0.2)
            assert not any(call.done() for call in calls)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*calls)
        assert [await log.end_offset(place) for place in (LOG, INPUT)] == [1, 1]
        assert not waits(log)


async def test_a_write_given_up_while_it_waits_is_not_written(tmp_path: Path) -> None:
    """A call that is cancelled leaves nothing, and the thread does not wait on for it."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS, busy_timeout_ms=NEVER_MS) as log:
        with held(path):
            call = asyncio.ensure_future(log.publish([record(INPUT, b"a")]))
            await until(lambda: waits(log))
            call.cancel()
            await until(lambda: not waits(log))
        await log.publish([record(INPUT, b"b")])
        assert [each.value for each in (await log.read(INPUT, 0, records_max=9)).records] == [b"b"]


async def test_closing_gives_up_what_waits(tmp_path: Path) -> None:
    """Closing ends the wait: who still waits is told who is in the way, and nothing of his is written."""
    path = tmp_path / "log.db"
    log = SqliteLog(path, create=TOPICS, busy_timeout_ms=30)
    with held(path):
        call = asyncio.ensure_future(log.append(LOG, [record(LOG, b"a")], expected=0))
        await until(lambda: waits(log))
        async with asyncio.timeout(PATIENCE_S):
            await log.close()
            with pytest.raises(LogUnavailableError, match=r"another process that does not let go.*SQLITE_BUSY"):
                await call
    async with SqliteLog(path) as log:
        assert await log.end_offset(LOG) == 0


async def test_closing_does_not_wait_for_what_was_cancelled(tmp_path: Path) -> None:
    """With nobody left who wants anything written, closing takes no longer than SQLite tries at a time."""
    path = tmp_path / "log.db"
    log = SqliteLog(path, create=TOPICS, busy_timeout_ms=NEVER_MS)
    with held(path):
        call = asyncio.ensure_future(log.publish([record(INPUT, b"a")]))
        await until(lambda: waits(log))
        call.cancel()
        async with asyncio.timeout(PATIENCE_S):
            await log.close()
    assert SLICE_MS < 1_000


async def test_what_writes_nothing_does_not_wait(tmp_path: Path) -> None:
    """A log that has its topics is opened, and read, while another program writes it."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS) as log:
        await log.publish([record(INPUT, b"a")])
    with held(path):
        for create, read_only in ((TOPICS, False), ({}, False), (None, False), (None, True)):
            opened = SqliteLog(path, create=create, read_only=read_only, busy_timeout_ms=NEVER_MS)
            async with asyncio.timeout(PATIENCE_S), opened as log:
                await log.create_topics(TOPICS)
                assert len((await log.read(INPUT, 0, records_max=9)).records) == 1


async def test_making_topics_ends_with_a_sentence(tmp_path: Path) -> None:
    """What is missing is waited for no longer than ``busy_timeout_ms``, on opening and later."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS, busy_timeout_ms=30) as log:
        with held(path):
            with pytest.raises(LogUnavailableError, match="does not let go: see who has the file open"):
                await log.create_topics({"dead-letters": 1})
            with pytest.raises(LogUnavailableError, match="does not let go"):
                SqliteLog(path, create={"dead-letters": 1}, busy_timeout_ms=30)
        await log.create_topics({"dead-letters": 1})


def test_a_long_wait_is_said_seldom_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After 5 s, then every 30 s, a warning says what to look for; a wait as writers cost each other is not told."""
    now_s = 1_000.0
    wait = LockWait(tmp_path / "log.db", clock=lambda: now_s)

    def told(seconds: float, step_s: float = SLICE_MS / 1000) -> list[str]:
        nonlocal now_s
        caplog.clear()
        for _ in range(round(seconds / step_s)):
            wait.note()
            now_s += step_s
        return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]

    assert told(WARN_AFTER_S - 0.1) == []
    wait.end()
    assert told(0) == []
    assert told(WARN_AFTER_S - 0.1) == []
    (first,) = told(0.5)
    assert wait.is_long
    assert "(5 s so far): writes wait for it; look for a backup, VACUUM or an open sqlite3 shell" in first
    assert told(WARN_INTERVAL_S - 1) == []
    assert len(told(3 * WARN_INTERVAL_S)) == 3
    wait.end()
    assert "was held for" in caplog.records[-1].getMessage()
    assert wait.waited_s == 0


async def test_a_log_says_that_it_is_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What readiness asks: whether writes have been waiting for a while."""
    monkeypatch.setattr("events.sqlite.lock_wait.WARN_AFTER_S", 0.05)
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS) as log:
        assert log.held_up() is None
        with held(path):
            assert log.held_up() is None, "nobody wants to write"
            call = asyncio.ensure_future(log.publish([record(INPUT, b"a")]))
            await until(lambda: log.held_up() is not None)
            reading = await read_answer(log)
            assert (reading.log_answers, reading.why_not) == (False, log.held_up())
            assert "does not let go: writes wait for it" in (reading.why_not or "")
        await call
        assert (await read_answer(log)).log_answers
    async with SqliteLog(path, read_only=True) as log:
        assert log.held_up() is None

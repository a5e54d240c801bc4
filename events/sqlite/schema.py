"""The SQLite file of a log: opening, making and recognising it, and SQLite's errors as sentences.

Tables: ``topic`` (a topic's partitions have the ids ``first`` .. ``first + partitions - 1``), ``partition`` (its range
of offsets, and the number of the transaction in which it last grew), ``record``, ``latest`` (where the last record of
each key of a compacted topic stands), ``committed``, ``store``; the view ``records`` shows records to people who look
with the ``sqlite3`` command.
Nothing here reads the file except through SQLite: closing a descriptor of our own would drop SQLite's locks on it.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from events.adapter import check_partitions
from events.log import LogError, LogUnavailableError
from events.sqlite.file import connect
from events.sqlite.lock_wait import HELD

APPLICATION_ID: Final = 0x56495052  #: "VIPR", in the file's header
SCHEMA_VERSION: Final = 1  #: in ``user_version``; rises when an older program could not use the file

PAGE_BYTES: Final = 8192  #: a record of up to 2,030 bytes lies in its page whole
CHECKPOINT_PAGES: Final = 2000  #: 16 MiB of write-ahead log between checkpoints
JOURNAL_BYTES_MAX: Final = 64 * 1024 * 1024  #: a write-ahead log that grew beyond this is cut again

_SCHEMA: Final = """
CREATE TABLE store (cluster_id TEXT NOT NULL);
CREATE TABLE topic (first INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL);
CREATE TABLE partition (
    tp INTEGER PRIMARY KEY, start INTEGER NOT NULL, "end" INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    changed INTEGER NOT NULL
);
CREATE TABLE record (
    tp INTEGER NOT NULL, "offset" INTEGER NOT NULL, time_ms INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB,
    PRIMARY KEY (tp, "offset")
) WITHOUT ROWID;
CREATE TABLE latest (
    tp INTEGER NOT NULL, key BLOB NOT NULL, "offset" INTEGER NOT NULL, deleted_ms INTEGER,
    PRIMARY KEY (tp, key)
) WITHOUT ROWID;
CREATE INDEX latest_deleted ON latest (deleted_ms) WHERE deleted_ms IS NOT NULL;
CREATE TABLE committed (
    "group" TEXT NOT NULL, tp INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    PRIMARY KEY ("group", tp)
) WITHOUT ROWID;
CREATE VIEW records AS
    SELECT name AS topic, tp - first AS partition, "offset",
        strftime('%Y-%m-%dT%H:%M:%fZ', time_ms / 1000.0, 'unixepoch') AS time,
        CAST(key AS TEXT) AS key, CAST(value AS TEXT) AS value, headers
    FROM record JOIN topic ON tp BETWEEN first AND first + partitions - 1
"""


class OpenFile(NamedTuple):
    """A log file's connections."""

    writer: sqlite3.Connection | None  #: None: opened to be read only
    reader: sqlite3.Connection
    cluster_id: str


def open_file(path: Path, *, create: Mapping[str, int] | None, read_only: bool, busy_timeout_ms: int) -> OpenFile:
    """Open a log, or make one with the topics ``create``; None: the file must exist.

    Raises ``LogUnavailableError``, having changed nothing, if the file cannot be used as asked or is no log of ours,
    and ``LogError`` if one of the topics exists with another partition count.
    """
    _check_path(path, create=create is not None)
    with ExitStack() as undo:
        try:
            writer = None
            if not read_only:
                mode, make = ("mode=rw", False) if create is None else ("mode=rwc", True)
                writer = connect(path, mode, make=make, busy_timeout_ms=busy_timeout_ms)
                undo.callback(writer.close)
                _prepare(writer, path, create, busy_timeout_ms)
            reader = _open_reader(path, read_only=read_only, busy_timeout_ms=busy_timeout_ms)
            undo.callback(reader.close)
            (cluster_id,) = reader.execute("SELECT cluster_id FROM store").fetchone()
        except sqlite3.Error as error:
            raise explained(error, path) from error
        undo.pop_all()
    return OpenFile(writer, reader, cluster_id)


def make_topics(connection: sqlite3.Connection, wanted: Mapping[str, int]) -> None:
    """Make the topics that do not exist, inside the caller's transaction; ``LogError`` if a count differs."""
    existing: dict[str, int] = dict(connection.execute("SELECT name, partitions FROM topic").fetchall())
    for topic, count in wanted.items():
        check_partitions(topic, count)
        if existing.get(topic, count) != count:
            raise LogError(f"{topic} exists with {existing[topic]} partitions, not {count}; a topic's count is fixed")
    (first,) = connection.execute("SELECT ifnull(max(first + partitions), 1) FROM topic").fetchone()
    (changed,) = connection.execute("SELECT ifnull(max(changed), 0) + 1 FROM partition").fetchone()
    for topic, count in wanted.items():
        if topic not in existing:
            connection.execute("INSERT INTO topic VALUES (?, ?, ?)", (first, topic, count))
            rows = [(first + number, changed) for number in range(count)]
            connection.executemany("INSERT INTO partition VALUES (?, 0, 0, 0, ?)", rows)
            first += count


def are_made(connection: sqlite3.Connection, wanted: Mapping[str, int]) -> bool:
    """Whether all these topics exist with these counts."""
    existing: dict[str, int] = dict(connection.execute("SELECT name, partitions FROM topic").fetchall())
    return all(existing.get(topic) == count for topic, count in wanted.items())


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another connection has a lock that is needed."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF == sqlite3.SQLITE_BUSY


def explained(error: sqlite3.Error, path: Path) -> Exception:
    """What the caller can do about SQLite's ``error``; one that SQLite did not report is a fault of ours, unchanged."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return error
    name: str = error.sqlite_errorname
    sentence = _SENTENCES.get(code & 0xFF, "cannot be used ({error}): see the error's name in SQLite's documentation")
    return LogUnavailableError(f"the log {path} " + sentence.format(folder=path.parent, error=error) + f" [{name}]")


_SENTENCES: Final = {
    sqlite3.SQLITE_FULL: "has no room to grow, nothing was written: free space in {folder} and start again",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}): check the disk and its free space, then start again",
    sqlite3.SQLITE_READONLY: "is read-only, nothing was written: make the file and its folder writable for this user",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened: make the file and its folder {folder} readable and writable for this "
    "user",
    sqlite3.SQLITE_PERM: "cannot be opened: make the file and its folder {folder} readable and writable for this user",
    sqlite3.SQLITE_NOTADB: "is not a log (no SQLite file): name another file",
    sqlite3.SQLITE_CORRUPT: "is damaged: restore a copy, or save what can be read with the sqlite3 command's .recover",
    sqlite3.SQLITE_BUSY: f"{HELD}: see who has the file open",
    sqlite3.SQLITE_LOCKED: f"{HELD}: see who has the file open",
}


def _check_path(path: Path, *, create: bool) -> None:
    try:
        if path.is_dir():
            raise LogUnavailableError(f"{path} is a folder: name a file in it, such as {path / 'vip-router.db'}")
        if not path.parent.is_dir():
            raise LogUnavailableError(f"the folder {path.parent} does not exist: make it, or name another file")
        if not create and not path.exists():
            raise LogUnavailableError(f"there is no log {path}: start `vip-router serve` on it, or name another file")
    except PermissionError as error:
        raise LogUnavailableError(f"{path} may not be looked at by this user: {error.strerror}") from error


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file holds nothing yet. Raises ``LogUnavailableError`` unless it is new or ours."""
    connection.execute("BEGIN")  # one look: another process may be making the log now
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("COMMIT")
    if (application_id, version, objects) == (0, 0, 0):
        return True
    if application_id != APPLICATION_ID:
        raise LogUnavailableError(f"{path} is another program's SQLite file, not a log: name another file")
    if version > SCHEMA_VERSION:
        raise LogUnavailableError(
            f"the log {path} has schema {version}, this vip-router knows {SCHEMA_VERSION}: use a newer vip-router"
        )
    return False


def _prepare(
    connection: sqlite3.Connection, path: Path, create: Mapping[str, int] | None, busy_timeout_ms: int
) -> None:
    new = _is_new(connection, path)
    if new:
        if create is None:
            raise LogUnavailableError(f"{path} is empty, not a log: remove it and let `vip-router serve` make one")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    mode = _journal_mode(connection, busy_timeout_ms)
    if mode != "wal":
        raise LogUnavailableError(f"{path} cannot have a write-ahead log here ({mode}): put it on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES_MAX}")
    _make_tables(connection, create or {}, new=new)
    if new:
        _sync_folder(path.resolve().parent)


def _journal_mode(connection: sqlite3.Connection, busy_timeout_ms: int) -> str:
    """Turn the write-ahead log on; SQLite's own busy timeout does not cover two processes that do so at once."""
    give_up_s = time.monotonic() + busy_timeout_ms / 1000
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return str(mode)


def _make_tables(connection: sqlite3.Connection, topics: Mapping[str, int], *, new: bool) -> None:
    """Make what is missing, in one transaction; what may not be written is told even if nothing is."""
    whole = not new and are_made(connection, topics)
    if whole:  # the lock is not worth waiting for then
        connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if whole and is_busy(error):
            return
        raise
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)
        connection.execute("INSERT INTO store VALUES (?)", (uuid.uuid4().hex,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    make_topics(connection, topics)
    # SQLite opens a file that it may not write without a word, and even begins a transaction on it: show it here.
    connection.execute("UPDATE store SET cluster_id = cluster_id")
    connection.execute("COMMIT")


def _sync_folder(folder: Path) -> None:
    """Make a new file's name as durable as what stands in it; SQLite does so for its journals alone."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_reader(path: Path, *, read_only: bool, busy_timeout_ms: int) -> sqlite3.Connection:
    if not read_only:
        connection = _readable(path, "mode=rw", busy_timeout_ms)
        connection.execute("PRAGMA query_only = ON")
        return connection
    try:
        return _readable(path, "mode=ro", busy_timeout_ms)
    except sqlite3.OperationalError:
        if _has_journal(path):
            raise
        # A folder that is not writable has no room for SQLite's shared memory; without a journal nobody is writing.
        return _readable(path, "mode=ro&immutable=1", busy_timeout_ms)


def _readable(path: Path, options: str, busy_timeout_ms: int) -> sqlite3.Connection:
    with ExitStack() as undo:
        connection = connect(path, options, make=False, busy_timeout_ms=busy_timeout_ms)
        undo.callback(connection.close)
        if _is_new(connection, path):
            raise LogUnavailableError(f"{path} is empty, not a log: name another file")
        undo.pop_all()
    return connection


def _has_journal(path: Path) -> bool:
    real = path.resolve()  # where a symbolic link leads: SQLite's journals stand there
    journal = real.with_name(f"{real.name}-wal")
    return journal.exists() and journal.stat().st_size > 0

"""``serve`` on a file that another program holds, that is moved away under it, or that has a second name."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.output_checks import check_log, owners_of
from tests.processes import DEADLINE_S, Running, json_lines, opened, run, stored, wait_until

CONTACTS: dict[str, dict[str, Any]] = {f"c{n}@example.com": {"customerType": "VIP"} for n in range(20)}
MOVED = "was moved or replaced while it is in use"
HELD = "is being written by another process that does not let go (5 s so far): writes wait for it"


@contextmanager
def serving(folder: Path, *arguments: str, wait_for: str = "ready") -> Iterator[Running]:
    with Running("serve", "--policy", "p.toml", *arguments, cwd=folder) as process:
        process.wait_for(wait_for)
        yield process


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Another program has the file's write lock."""
    with closing(sqlite3.connect(folder / "vip-router.db", isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def publish(folder: Path, first: int, count: int) -> None:
    events = [opened(f"c{n}", email=f"c{n}@example.com") for n in range(first, first + count)]
    done = run("publish", "-", cwd=folder, stdin=json_lines(events))
    assert done.code == 0, done.err


def are_assigned(folder: Path, count: int) -> bool:
    return len(owners_of(stored(folder, "assignments"))) == count


def readyz(process: Running) -> tuple[int, dict[str, Any]]:
    (line,) = [line for line in process.lines["err"] if "metrics on" in line]
    port = int(line.rsplit(":", 1)[1].removesuffix("/metrics"))
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as connection:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def test_a_lock_that_another_program_holds_for_long_ends_nothing(folder):
    """Writes wait, it is said after 5 s, readiness says so too, and then everything goes on by itself."""
    with serving(folder, "--metrics", "0") as serve, Running("publish", "-", cwd=folder) as publisher:
        assert readyz(serve)[0] == 200
        with held(folder):
            assert publisher.process.stdin is not None
            publisher.process.stdin.write(json_lines([opened("c0", email="c0@example.com")]))
            publisher.process.stdin.close()
            wait_until(lambda: publisher.says(HELD), "the publisher says that it waits")
            read = run("tail", "conversations.events", "--json", cwd=folder)
            assert (read.code, read.events) == (0, []), "who only reads is not held up"
        assert publisher.end().code == 0
        wait_until(partial(are_assigned, folder, 1), "the assignment")
        ended = serve.end(signal.SIGTERM)
    assert (ended.code, "does not let go" in ended.err) == (0, False)


def test_serve_waits_for_the_lock_and_says_so(folder):
    """A lane that decides while the file is held waits with its append: not ready, and not ended."""
    publish(folder, 0, 1)
    with serving(folder, "--until-idle", "300ms") as serve:
        assert serve.end().code == 0
    publish(folder, 1, 4)
    with held(folder), serving(folder, "--metrics", "0", wait_for="metrics on") as serve:
        serve.wait_for("ready")
        wait_until(lambda: serve.says(HELD), "serve says that it waits")
        wait_until(lambda: readyz(serve)[0] == 503, "not ready")
        status, body = readyz(serve)
        assert (status, body["status"]) == (503, "log-unreachable")
        assert "does not let go: writes wait for it" in body["log"]
        ended = serve.end(signal.SIGTERM)
        assert ended.code == 0, ended.err
    with serving(folder, "--until-idle", "500ms") as serve:
        assert serve.end().code == 0
    assert are_assigned(folder, 5)
    for topic in ("routing.log", "assignments.log"):
        check_log(stored(folder, topic))


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def replace_by_a_copy(path: Path) -> None:
    """Restore a copy over it, as nobody should while it is in use."""
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(path.with_name("copy.db"))) as copy:
        source.backup(copy)
    path.with_name("old.db").hardlink_to(path)
    path.with_name("copy.db").rename(path)


@pytest.mark.parametrize(("change", "old", "kept"), [(move, "moved.db", 0), (replace_by_a_copy, "old.db", 3)])
def test_a_file_that_is_moved_away_ends_serve_with_a_sentence(folder, change, old, kept):
    """It does not go on with a file that nobody else sees. That one is whole, and so is what comes in its place."""
    publish(folder, 0, 3)
    with serving(folder) as serve:
        wait_until(partial(are_assigned, folder, 3), "three assignments")
        change(folder / "vip-router.db")
        ended = serve.end()
    assert ended.code == 3
    assert MOVED in ended.err.splitlines()[-1]
    assert ended.err.splitlines()[-1].endswith("put it back")
    assert [path.stat().st_size for path in folder.glob("vip-router.db-wal")] in ([], [0])
    with closing(sqlite3.connect(f"file:{folder / old}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        count = "SELECT count(*) FROM records WHERE topic = 'assignments'"
        assert connection.execute(count).fetchone() == (3,)
    publish(folder, 3, 2)
    with serving(folder, "--until-idle", "500ms") as serve:
        assert serve.end().code == 0
    assert are_assigned(folder, kept + 2)


def test_another_name_of_the_file_is_the_same_log(folder):
    """Two serves on one file, one through a symbolic link: the second one waits for the roles."""
    (folder / "link.db").symlink_to("vip-router.db")
    options = ("--log", "sqlite:///link.db")
    with serving(folder) as serve, serving(folder, *options, wait_for="waiting until it ends") as second:
        assert not second.says("ready")
        assert serve.end(signal.SIGTERM).code == 0
        second.wait_for("ready")
        assert second.end(signal.SIGTERM).code == 0


def test_a_log_that_everybody_can_read_is_told_once(folder):
    """A log that serve makes is its owner's alone; one that was made otherwise is warned about."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        shutil.copy(folder / "p.toml", place)
        ended = run("serve", "--policy", "p.toml", "--until-idle", "100ms", cwd=Path(place))
        assert (ended.code, "warning" in ended.err) == (0, False)
        path = Path(place) / "vip-router.db"
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        ended = run("serve", "--policy", "p.toml", "--until-idle", "100ms", cwd=Path(place))
        assert ended.code == 0
        assert ended.err.count("warning: the log vip-router.db can be read by everybody on this machine") == 1
        assert path.stat().st_mode & 0o777 == 0o644

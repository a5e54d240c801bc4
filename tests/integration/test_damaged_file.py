"""Commands on a SQLite file in which somebody has changed, damaged or removed records: each says so, and none fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from events import topics
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG, ASSIGNMENTS_SNAPSHOTS, CONVERSATION_EVENTS
from routing.policy_template import template_text
from tests.audit_support import Tampered
from tests.desk_given import make_desk
from tests.processes import run

SERVE = ("serve", "--policy", "policy.toml", "--until-idle", "200ms")
SAYS_MORE = '; "vip-router audit verify" says more\n'
UNREADABLE = {
    "headers = substr(headers, 1, length(headers) - 1)": "its headers are damaged",
    "value = CAST(value AS TEXT)": "its value is stored as text",
}  # all kinds: test_sqlite_damage.py
AT = "assignments.log/0 at offset 7: "


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_desk(tmp_path_factory.mktemp("desk") / "desk.db")
    log = Tampered(path)
    log.sql("DELETE FROM record WHERE tp = ?", log.tp(ASSIGNMENTS_SNAPSHOTS, 0))  # so that lanes fold the whole log
    return path


@pytest.fixture
def log(morning: Path, tmp_path: Path) -> Tampered:
    """That log as the vip-router.db of a folder with a policy."""
    (tmp_path / "policy.toml").write_text(template_text(), encoding="utf-8")
    return Tampered(Path(shutil.copy(morning, tmp_path / "vip-router.db")))


def change(log: Tampered, what: str, topic: str, offset: int) -> None:
    log.sql(f'UPDATE record SET {what} WHERE tp = ? AND "offset" = ?', log.tp(topic, 0), offset)


def remove(log: Tampered, first: int, end: int) -> None:
    log.sql(
        'DELETE FROM record WHERE tp = ? AND "offset" >= ? AND "offset" < ?', log.tp(ASSIGNMENTS_LOG, 0), first, end
    )


def set_start(log: Tampered, start: int) -> None:
    log.sql("UPDATE partition SET start = ? WHERE tp = ?", start, log.tp(ASSIGNMENTS_LOG, 0))


# --- a log with a record that cannot be read ---


@pytest.mark.parametrize("command", ["verify", "replay"])
@pytest.mark.parametrize(("what", "why"), UNREADABLE.items())
def test_an_audit_reports_a_break_at_its_place(log, command, what, why):
    change(log, what, ASSIGNMENTS_LOG, 7)
    ended = run("audit", command, "--json", cwd=log.path.parent)
    assert (ended.code, ended.err) == (1, "")
    difference = json.loads(ended.out)["first_difference"]
    assert difference["place"] == {"topic": ASSIGNMENTS_LOG, "partition": 0, "offset": 7}
    assert (difference["check"], difference["sentence"]) == ("record", f"{why}: the file was changed or damaged")


@pytest.mark.parametrize("command", [("audit", "show", "v6"), ("workspace", "show"), ("fairness",)])
@pytest.mark.parametrize(("what", "why"), UNREADABLE.items())
def test_who_tells_of_the_log_says_that_it_is_damaged(log, command, what, why):
    change(log, what, ASSIGNMENTS_LOG, 7)
    ended = run(*command, cwd=log.path.parent)
    sentence = f"vip-router: the log is damaged: {AT}{why}: the file was changed or damaged{SAYS_MORE}"
    assert (ended.code, ended.out, ended.err) == (1, "", sentence)


def test_serve_ends_with_a_sentence(log):
    change(log, "headers = x'91'", ASSIGNMENTS_LOG, 7)
    ended = run(*SERVE, cwd=log.path.parent)
    assert ended.code == 3
    assert (
        f"the log is damaged or was cut: {AT}its headers are damaged: the file was changed or damaged{SAYS_MORE}"
        in ended.err
    )


def test_tail_prints_what_stands_before_it(log):
    change(log, "headers = x'91'", ASSIGNMENTS_LOG, 7)
    ended = run("tail", ASSIGNMENTS_LOG, cwd=log.path.parent)
    assert ended.code == 3
    assert len(ended.out.splitlines()) == 7
    assert f"the log is damaged or was cut: {AT}its headers are damaged" in ended.err


# --- a log of which records are missing ---


def test_serve_on_a_chain_that_does_not_fit_says_what_to_do(log):
    remove(log, 7, 8)
    ended = run(*SERVE, cwd=log.path.parent)
    assert ended.code == 3
    assert "the log is damaged or was cut: assignments.log/0 at offset 8 follows sha256:" in ended.err
    assert ended.err.endswith(SAYS_MORE)


def test_serve_on_a_log_without_its_beginning_says_so(log):
    remove(log, 0, 7)
    ended = run(*SERVE, cwd=log.path.parent)
    assert ended.code == 3
    assert (
        f"the log is damaged or was cut: assignments.log/0 begins at offset 7: its beginning is missing{SAYS_MORE}"
        in ended.err
    )


def test_serve_on_a_log_that_holds_something_else_says_so(log):
    change(log, "value = x'00'", ASSIGNMENTS_LOG, 7)
    ended = run(*SERVE, cwd=log.path.parent)
    assert ended.code == 3
    assert "the log is damaged or was cut: assignments.log/0 at offset 7 holds no record of ours" in ended.err


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_start_that_was_moved_is_a_break(log, command):
    """A log is never cut at its beginning, whatever the store says that it still has."""
    set_start(log, 10)
    ended = run("audit", command, "--json", cwd=log.path.parent)
    assert (ended.code, ended.err) == (1, "")
    difference = json.loads(ended.out)["first_difference"]
    assert difference["place"] == {"topic": ASSIGNMENTS_LOG, "partition": 0, "offset": 0}
    assert difference["check"] == "offsets"
    assert difference["sentence"].startswith("10 records are missing")


@pytest.mark.parametrize("command", [("workspace", "show"), ("fairness",)])
@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (lambda log: remove(log, 7, 8), "assignments.log/0 at offset 8 follows sha256:"),
        (lambda log: remove(log, 0, 7), "assignments.log/0 begins at offset 7: its beginning is missing"),
        (lambda log: set_start(log, 10), "assignments.log/0 begins at offset 10: its beginning is missing"),
    ],
    ids=["a record in the middle", "the first records", "the start"],
)
def test_the_desk_refuses_to_report_from_what_is_left(log, command, meddle, words):
    meddle(log)
    ended = run(*command, cwd=log.path.parent)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"vip-router: the log is damaged: {words}")
    assert ended.err.endswith(SAYS_MORE)


def test_fairness_looks_only_at_the_time_that_it_is_asked_for(log):
    """What is damaged behind ``--until`` is not its business."""
    end = len(log.records(ASSIGNMENTS_LOG, 0))
    remove(log, end - 2, end - 1)
    assert run("fairness", "--until", "2026-11-21T22:26:50Z", cwd=log.path.parent).code == 0
    assert run("fairness", cwd=log.path.parent).code == 1


# --- any other topic ---


async def test_an_input_that_cannot_be_read_becomes_a_dead_letter(tmp_path):
    """The partition moves on: what stands behind it is decided; tail shows that something stood there."""
    (tmp_path / "policy.toml").write_text(template_text(), encoding="utf-8")
    (tmp_path / "events.jsonl").write_text("\n".join(map(opened, range(3))), encoding="utf-8")
    path = tmp_path / "vip-router.db"
    async with SqliteLog(path, create=topics.partition_counts(1, 1)):
        pass
    assert run("publish", "events.jsonl", cwd=tmp_path).code == 0
    change(Tampered(path), "headers = x'91'", CONVERSATION_EVENTS, 1)
    tailed = run("tail", CONVERSATION_EVENTS, cwd=tmp_path)
    assert (tailed.code, len(tailed.out.splitlines())) == (0, 3)
    assert "0@1     (the record at offset 1 cannot be read: its headers are damaged)" in tailed.out
    served = run(*SERVE, "--roles", "router,assigner", cwd=tmp_path)
    assert served.code == 0, served.err
    [letter] = run("dead-letters", "list", "--json", cwd=tmp_path).events
    assert (letter["data"]["reason"], letter["data"]["offset"]) == ("unreadable", 1)
    assert "its headers are damaged" in letter["data"]["detail"]
    started = [event for event in Tampered(path).records("routing.log", 0) if event["type"] == "conversation.started"]
    assert [event["subject"] for event in started] == ["v0", "v2"]
    assert run("audit", "verify", cwd=tmp_path).code == 0


def opened(number: int) -> str:
    return json.dumps({
        "specversion": "1.0", "id": f"e{number}", "source": "/x", "type": "conversation.opened",
        "time": "2026-11-22T10:00:00Z", "partitionkey": f"c{number}", "subject": f"v{number}",
        "data": {"contact": {"id": f"c{number}"}},
    })  # fmt: skip

"""``vip-router workspace show`` and ``vip-router fairness`` as commands, on a log made by real lanes."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import orjson
import pytest

from events import topics
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG
from tests.audit_support import START_MS, Tampered
from tests.desk_given import make_desk
from tests.processes import run

BEFORE = "2026-11-21T22:26:39Z"  #: START_MS is 22:26:40
DURING = "2026-11-21T22:26:46Z"
AFTER = "2026-11-21T22:34:00Z"


@pytest.fixture(scope="module")
def morning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_desk(tmp_path_factory.mktemp("desk") / "desk.db")


@pytest.fixture
def folder(morning: Path, tmp_path: Path) -> Path:
    """A folder whose vip-router.db is that log: the default of ``--log``."""
    shutil.copy(morning, tmp_path / "vip-router.db")
    return tmp_path


def shown(folder: Path, *arguments: str) -> dict[str, Any]:
    ended = run("workspace", "show", "--json", *arguments, cwd=folder)
    assert (ended.code, ended.err) == (0, "")
    found: dict[str, Any] = json.loads(ended.out)
    return found


# --- workspace show ---


def test_show_tells_agents_queue_and_offers_within_120_columns(folder):
    ended = run("workspace", "show", "--at", AFTER, cwd=folder, env={"COLUMNS": "120"})
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 120
    for words in (
        "Workspace default at 2026-11-21 22:34:00 (UTC)", "3 agents, 3 of them online", "2/2", "weight 2", "knows tax",
        "last given or offered",
        "speaks en, fr", "until 2026-11-22 00:56:43", "wraps up 1, until 2026-11-21 22:37:57", "1 waiting",
        "v6 of c6", "team support: 2 full", "promoted 2026-11-22 00:26:54", "~1 min 50 s", "1 offered", "v5 of c5",
    ):  # fmt: skip
        assert words in ended.out, words


def test_show_at_a_time_is_the_fold_up_to_then(folder):
    during, after = shown(folder, "--at", DURING), shown(folder, "--at", AFTER)
    assert [agent["open"] for agent in during["agents"]] == [0, 1, 0]
    assert during["waiting"] == []
    assert [agent["open"] for agent in after["agents"]] == [0, 2, 2]
    assert [each["conversation"] for each in after["waiting"]] == ["v6"]
    assert [each["conversation"] for each in after["offers"]] == ["v5"]
    assert after["waiting"][0]["estimated_wait_ms"] == round(440_000 / 4), "one place, 4 given in 440 s"


def test_show_now_is_as_of_the_last_record_or_later(folder):
    now, after = shown(folder), shown(folder, "--at", AFTER)
    assert now["log_end_time"] == after["log_end_time"] == "2026-11-21T22:32:57.000Z"
    assert now["as_of"] >= now["log_end_time"]
    assert [agent["open"] for agent in now["agents"]] == [0, 2, 2]


def test_show_reads_nothing_that_is_appended_later_than_it_was_asked_for(folder):
    """A read-only file is enough, and nothing is written."""
    before = (folder / "vip-router.db").read_bytes()
    (folder / "vip-router.db").chmod(0o444)
    shown(folder, "--at", AFTER)
    assert (folder / "vip-router.db").read_bytes() == before


# --- fairness ---


def test_fairness_tells_shares_times_and_eligibility(folder):
    ended = run("fairness", cwd=folder, env={"COLUMNS": "140"})
    assert (ended.code, ended.err) == (0, "")
    for words in ("team/support round-robin", "2-2", "1.0000", "0.9000", "by weight", "eligible", "6 min 4 s"):
        assert words in ended.out, words


def test_its_json_has_the_documented_keys(folder):
    ended = run("fairness", "--json", cwd=folder)
    report = json.loads(ended.out)
    assert list(report) == ["workspace", "by", "log_end_time", "periods"]
    [period] = report["periods"]
    assert list(period) == ["from_ms", "to_ms", "from_time", "to_time", "pools"]
    [dedicated, support] = period["pools"]
    assert list(support) == [
        "pool", "strategy", "given", "to_fallback", "escalated", "waiting", "longest_wait_ms", "spread",
        "spread_always_eligible", "jain", "jain_by_weight", "classes", "agents",
    ]  # fmt: skip
    assert (dedicated["pool"], dedicated["given"], dedicated["jain"]) == ("dedicated", 1, None)
    assert (support["pool"], support["given"], support["waiting"], support["spread"]) == ("team/support", 4, 2, 0)
    assert {name: row["assigned"] for name, row in support["classes"].items()} == {"regular": 4}
    assert support["classes"]["regular"]["p95_ms"] == 1_000, "each was accepted a second after it was offered"
    assert [(row["agent"], row["given"], row["weight"]) for row in support["agents"]] == [("sam", 2, 1), ("tess", 2, 2)]
    assert all(0 < row["eligible"] < 0.1 for row in support["agents"]), "they were full most of the time"


@pytest.mark.parametrize("by", ["day", "week", "whole"])
def test_periods_add_up(folder, by):
    report = json.loads(run("fairness", "--json", "--by", by, cwd=folder).out)
    assert report["by"] == by
    assert sum(pool["given"] for period in report["periods"] for pool in period["pools"]) == 5


def test_since_and_until_cut_the_time_out(folder):
    arguments = ("--since", "2026-11-21T22:26:50Z", "--until", "2026-11-21T22:26:55Z")
    [period] = json.loads(run("fairness", "--json", *arguments, cwd=folder).out)["periods"]
    assert (period["from_time"], period["to_time"]) == ("2026-11-21T22:26:50.000Z", "2026-11-21T22:26:55.000Z")
    assert {pool["pool"]: pool["given"] for pool in period["pools"]} == {"team/support": 2}


def test_the_plot_is_svg(folder):
    ended = run("fairness", "--plot", "fair.svg", "--by", "day", cwd=folder)
    assert ended.code == 0
    assert ended.err == "drawn: fair.svg\n"
    assert "Fairness in workspace default" in "".join(ET.parse(folder / "fair.svg").getroot().itertext())


def test_a_time_in_which_nothing_was_to_be_assigned_is_no_error(folder):
    ended = run("fairness", "--until", "2026-11-21T22:26:42Z", "--plot", "fair.svg", cwd=folder)
    assert ended.code == 0
    assert "no conversation needed an agent in that time" in ended.out
    assert "nothing to draw" in ended.err


# --- bad input ---

SHOW = ["workspace", "show"]
BAD = {
    "an unknown workspace": (
        [[*SHOW, "--workspace", "x"], ["fairness", "--workspace", "x"]],
        1,
        "knows no workspace 'x'",
    ),
    "which there are": ([[*SHOW, "--workspace", "x"], ["fairness", "--workspace", "x"]], 1, "it has default"),
    "before the log": ([[*SHOW, "--at", BEFORE], ["fairness", "--until", BEFORE]], 1, "first record is of"),
    "after the log": ([["fairness", "--since", "2026-11-21T22:32:58Z"]], 1, "the log's last record is of"),
    "the future": ([[*SHOW, "--at", "9000-01-01"], ["fairness", "--since", "9000-01-01"]], 2, "is in the future"),
    "no time": ([[*SHOW, "--at", "noon"], ["fairness", "--since", "noon"]], 2, "'noon': not an RFC 3339 time"),
    "no day": ([["fairness", "--until", "2026-02-30"]], 2, "a time that no calendar has"),
    "a steering character": ([[*SHOW, "--at", "\x1b[2J"]], 2, "<U+001B>[2J"),
    "the wrong way round": ([["fairness", "--since", AFTER, "--until", DURING]], 2, "--since must be before --until"),
    "no period": ([["fairness", "--by", "month"]], 2, "give one of day, week, whole"),
    "a PNG": ([["fairness", "--plot", "x.png"]], 2, "rsvg-convert"),
    "a folder that is not there": ([["fairness", "--plot", "no/x.svg"]], 2, "there is no folder no"),
    "a folder for a file": ([["fairness", "--plot", "dir.svg"]], 2, "dir.svg: Is a directory"),
}


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [(command, code, words) for commands, code, words in BAD.values() for command in commands],
    ids=[f"{name}-{command[0]}" for name, (commands, _, _) in BAD.items() for command in commands],
)
def test_bad_input_ends_in_a_sentence(folder, command, code, words):
    (folder / "dir.svg").mkdir()
    ended = run(*command, cwd=folder)
    assert ended.code == code, ended.err
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1
    assert "\x1b" not in ended.err


@pytest.mark.parametrize("command", [SHOW, ["fairness"]])
def test_a_log_that_is_not_there_exits_3(tmp_path, command):
    ended = run(*command, "--log", "sqlite:///nowhere.db", cwd=tmp_path)
    assert ended.code == 3
    assert "there is no log" in ended.err
    assert not (tmp_path / "nowhere.db").exists()


@pytest.mark.parametrize("command", [SHOW, ["fairness"]])
async def test_an_empty_log_exits_1_and_says_so(tmp_path, command):
    path = tmp_path / "vip-router.db"
    async with SqliteLog(path, create=topics.partition_counts(1, 1), clock_ms=lambda: START_MS):
        pass
    ended = run(*command, cwd=tmp_path)
    assert ended.code == 1
    assert 'assignments.log/0 is empty: nobody was ever assigned here; has "vip-router serve" run?' in ended.err


@pytest.mark.parametrize("command", [SHOW, ["fairness"]])
def test_a_damaged_record_is_pointed_at(folder, command):
    log = Tampered(folder / "vip-router.db")
    place = log.find(ASSIGNMENTS_LOG, "assignment.made")
    log.put(ASSIGNMENTS_LOG, *place, b'{"subject":"v1"')
    ended = run(*command, cwd=folder)
    assert ended.code == 1
    assert f"the log is damaged: assignments.log/0 at offset {place[1]}" in ended.err.replace(" holds no", ": holds no")
    assert "audit verify" in ended.err


@pytest.mark.parametrize("command", [[*SHOW, "--at", AFTER], ["fairness"]])
def test_a_log_that_is_being_written_is_read(folder, command):
    """A writer in the middle of a transaction neither stops it nor shows in it."""
    with closing(sqlite3.connect(folder / "vip-router.db", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute('UPDATE record SET value = ? WHERE "offset" > 0', (b"rubbish",))
        ended = run(*command, cwd=folder)
        writer.execute("ROLLBACK")
    assert ended.code == 0, ended.err


def test_control_characters_of_a_record_do_not_reach_the_terminal(folder):
    log = Tampered(folder / "vip-router.db")
    place = log.find(ASSIGNMENTS_LOG, "agent.changed")
    event = log.event(ASSIGNMENTS_LOG, *place)
    event["data"]["agent"]["name"] = "sam\x1b[2J"
    event["data"]["agent"]["teams"] = ["support", "\x1b[1m"]
    log.forge(ASSIGNMENTS_LOG, *place, event)
    assert orjson.dumps("sam\x1b[2J") in orjson.dumps(log.event(ASSIGNMENTS_LOG, *place))
    for command in (SHOW, ["fairness"]):
        ended = run(*command, cwd=folder)
        assert ended.code == 0, ended.err
        assert "\x1b" not in ended.out

"""``vip-router audit`` as a command: what it prints, and how it exits."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import orjson
import pytest

from events.topics import ASSIGNMENTS, ASSIGNMENTS_LOG, REPLIES, ROUTING_LOG
from tests.audit_support import Tampered, make_day
from tests.processes import run


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_day(tmp_path_factory.mktemp("day") / "day.db")


@pytest.fixture
def folder(day: Path, tmp_path: Path) -> Path:
    """A folder whose vip-router.db is the day's log: the default of ``--log``."""
    shutil.copy(day, tmp_path / "vip-router.db")
    return tmp_path


@pytest.mark.parametrize(("command", "good_news"), [("verify", "Nothing is broken."), ("replay", "byte by byte.")])
def test_a_good_log_exits_0_and_says_what_was_checked(folder: Path, command: str, good_news: str) -> None:
    ended = run("audit", command, cwd=folder)
    assert ended.code == 0, ended.err
    assert good_news in ended.out
    assert re.search(r"^\d\d  records *$", ended.out, re.MULTILINE)


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_json_is_one_object(folder: Path, command: str) -> None:
    ended = run("audit", command, "--json", cwd=folder)
    assert ended.code == 0
    report = json.loads(ended.out)
    assert report["passed"] is True
    assert report["first_difference"] is None
    assert report["checked"]["records"] > 60


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_difference_exits_1_and_names_its_place(folder: Path, command: str) -> None:
    log = Tampered(folder / "vip-router.db")
    partition, offset = log.find(ROUTING_LOG, "email.timed-out")
    event = log.event(ROUTING_LOG, partition, offset)
    event["data"]["to"] = "routed-vip"
    log.forge(ROUTING_LOG, partition, offset, event)
    ended = run("audit", command, cwd=folder)
    assert ended.code == 1
    assert f"routing.log/{partition} at offset {offset}" in ended.out
    assert "conversation: v11 (contact c11, workspace default)" in ended.out
    assert "field: data.to" in ended.out
    assert "expected: escalated" in ended.out
    assert "found: routed-vip" in ended.out
    told = json.loads(run("audit", command, "--json", cwd=folder).out)["first_difference"]
    assert told["place"] == {"topic": "routing.log", "partition": partition, "offset": offset}


def test_a_missing_output_exits_1(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    log.remove(ASSIGNMENTS, *log.find(ASSIGNMENTS, "conversation.assigned"))
    ended = run("audit", "verify", cwd=folder)
    assert ended.code == 1
    assert "is missing on assignments/" in ended.out


def test_show_tells_the_history_within_100_columns(folder: Path) -> None:
    ended = run("audit", "show", "v1", cwd=folder, env={"COLUMNS": "100"})
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.splitlines())) <= 100
    for words in (
        "Conversation v1 of contact c1, workspace default", "awaiting-email -> email-retry-1", "[no-address]",
        "policy vip-contacts", "anna: 0 of 20 open, online <- chosen", "Now: routed-vip, with anna",
    ):  # fmt: skip
        assert words in ended.out
    assert "ann.lee@example.com" not in ended.out + ended.err
    assert "--personal" in ended.err


def test_show_tells_personal_data_when_asked(folder: Path) -> None:
    ended = run("audit", "show", "v1", "--personal", cwd=folder)
    assert ended.code == 0
    assert "ann.lee@example.com" in ended.out


def test_show_json_prints_the_records_exactly_as_stored(folder: Path) -> None:
    ended = run("audit", "show", "v1", "--json", cwd=folder)
    assert ended.code == 0, ended.err
    log = Tampered(folder / "vip-router.db")
    stored = [
        orjson.dumps(event)
        for topic, partition in ((ROUTING_LOG, 0), (ROUTING_LOG, 1), ("assignments.log", 0))
        for event in log.records(topic, partition)
        if event.get("subject") == "v1"
    ]
    lines = ended.out.encode().splitlines()
    assert len(lines) == 5
    assert sorted(lines) == sorted(stored)


def test_an_unknown_conversation_exits_1_and_helps(folder: Path) -> None:
    ended = run("audit", "show", "v99", cwd=folder)
    assert (ended.code, ended.out) == (1, "")
    assert "the log knows no conversation v99 in workspace default; did you mean v9?" in ended.err


def test_an_id_of_several_contacts_exits_2(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    place = log.find(ROUTING_LOG, "conversation.started")
    event = log.event(ROUTING_LOG, *place)
    event["partitionkey"], event["id"] = "c99", f"c99/{event['subject']}/1/0"
    end = len(log.records(ROUTING_LOG, place[0]))
    log.insert(ROUTING_LOG, place[0], end, copy_of=place[1], value=orjson.dumps(event))
    ended = run("audit", "show", event["subject"], cwd=folder)
    assert ended.code == 2
    assert "say whose with --contact" in ended.err


def test_a_damaged_record_is_pointed_at(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    place = log.find(ROUTING_LOG, "email.rejected")
    log.put(ROUTING_LOG, *place, b'{"subject":"v1"')
    ended = run("audit", "show", "v1", cwd=folder)
    assert ended.code == 1
    assert f"routing.log/{place[0]} at offset {place[1]}" in ended.err
    assert "audit verify" in ended.err


def test_a_changed_story_is_not_told_as_a_true_one(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    place = log.find(ASSIGNMENTS_LOG, "assignment.made", agent="anna")
    event = log.event(ASSIGNMENTS_LOG, *place)
    event["data"]["agent"] = "ed"
    log.put(ASSIGNMENTS_LOG, *place, orjson.dumps(event))
    where = f"assignments.log/0 at offset {place[1]}: this record was changed after it was written"
    ended = run("audit", "show", "v1", cwd=folder)
    assert ended.code == 1
    assert f"The log is damaged: {where}" in ended.out
    assert "Now, if the records were true: routed-vip, with ed" in ended.out
    assert where in ended.err
    assert '"vip-router audit verify" says more' in ended.err
    ended = run("audit", "show", "v1", "--json", cwd=folder)
    assert ended.code == 1
    *events, last = [json.loads(line) for line in ended.out.splitlines()]
    assert [event["specversion"] for event in events] == ["1.0"] * 5
    assert last["passed"] is False
    assert last["first_difference"]["place"] == {"topic": ASSIGNMENTS_LOG, "partition": 0, "offset": place[1]}
    assert {"expected", "found"}.isdisjoint(last["first_difference"])


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_report_ends_with_what_was_not_checked(folder: Path, command: str) -> None:
    words = {
        "verify": ("dead letters", "what inputs say", "last append", "signed checkpoints", "the chain has no key"),
        "replay": ("whether records are missing", "audit verify", "whether inputs are true"),
    }[command]
    ended = run("audit", command, cwd=folder)
    behind = ended.out.split(".\n", 1)[1]
    told = " ".join(json.loads(run("audit", command, "--json", cwd=folder).out)["not_checked"])
    for word in words:
        assert word in behind
        assert word in told


def test_a_personal_value_is_left_out_and_any_other_is_told(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    place = log.find(REPLIES, "reply.requested", kind="retry")
    event = log.event(REPLIES, *place)
    event["data"]["text"] = "send your password"
    log.put(REPLIES, *place, orjson.dumps(event))
    ended = run("audit", "verify", cwd=folder)
    assert "field: data.text" in ended.out
    assert re.search("expected:|found:|null|password", ended.out) is None
    told = json.loads(run("audit", "verify", "--json", cwd=folder).out)["first_difference"]
    assert told["field"] == "data.text"
    assert {"expected", "found"}.isdisjoint(told)


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_an_empty_copy_is_called_one_and_exits_1(folder: Path, command: str) -> None:
    """What cp makes of a file whose write-ahead log holds everything is a log with topics and no record."""
    log = Tampered(folder / "vip-router.db")
    log.sql("DELETE FROM record")
    log.sql('UPDATE partition SET start = 0, "end" = 0')
    ended = run("audit", command, cwd=folder)
    assert ended.code == 1
    assert "\nThis log holds nothing: nothing was ever decided on it, or it is a bad copy" in ended.out
    assert "Nothing is broken" not in ended.out
    assert "byte by byte" not in ended.out
    report = json.loads(run("audit", command, "--json", cwd=folder).out)
    assert report["passed"] is False
    assert report["first_difference"]["sentence"].startswith("This log holds nothing")


@pytest.mark.parametrize("command", [["verify"], ["replay"], ["show", "v1"]])
def test_a_log_that_is_not_there_exits_3(tmp_path: Path, command: list[str]) -> None:
    ended = run("audit", *command, "--log", "sqlite:///nowhere.db", cwd=tmp_path)
    assert ended.code == 3
    assert "there is no log" in ended.err
    assert not (tmp_path / "nowhere.db").exists()


def test_control_characters_of_a_record_do_not_reach_the_terminal(folder: Path) -> None:
    log = Tampered(folder / "vip-router.db")
    place = log.find(ROUTING_LOG, "conversation.ended")
    event = log.event(ROUTING_LOG, *place)
    event["data"]["reason"] = "bye\x1b[2J"
    log.forge(ROUTING_LOG, *place, event)
    ended = run("audit", "show", event["subject"], cwd=folder)
    assert ended.code == 0
    assert "\x1b" not in ended.out
    assert "bye<U+001B>[2J" in ended.out

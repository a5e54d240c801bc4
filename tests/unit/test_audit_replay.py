"""``replay`` gets every record again from its input, and says where it does not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.audit.replay import replay
from consumers.audit.report import HIDDEN, Report, compare
from consumers.audit.verify import verify
from events.memory import MemoryLog
from events.sqlite.log import SqliteLog
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG
from routing import messages
from routing.errors import TransitionError
from tests.audit_support import START_MS, Tampered, Town, policy, random_day


def replayed(path: Path, audit: Any = replay) -> Report:
    async def run() -> Report:
        async with SqliteLog(path) as log:
            report: Report = await audit(log)
            return report

    return asyncio.run(run())


def assert_found(report: Report, topic: str, partition: int, offset: int, field: str | None = None) -> str:
    """The report's first difference stands there; returns what it says."""
    difference = report.first_difference
    assert difference is not None
    place = difference.place
    assert (place.topic, place.partition, place.offset, difference.field) == (topic, partition, offset, field), (
        difference
    )
    return difference.sentence


# --- what comes out again ---


def test_a_log_that_lanes_wrote_comes_out_again(day: Path) -> None:
    report = replayed(day)
    assert report.passed, report.first_difference
    checked = report.checked
    assert checked["partitions"] == 3
    assert checked["policies"] == 2
    assert checked["follow-ups"] > 3
    assert checked["decisions"] + checked["follow-ups"] == checked["decided by version 1"]
    assert checked["records"] > 60


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_comes_out_again(seed: int) -> None:
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    policies = {"default": policy(), "other": policy(("one_open_per_contact = true", "one_open_per_contact = false"))}
    async with Town(log, policies, contacts=3, workspaces=2) as town:
        await random_day(town, seed + 10, 150)
    report = await replay(log)
    assert report.first_difference is None
    assert report.checked["decisions"] > 50


async def test_conversations_come_out_under_the_policy_that_they_began_with() -> None:
    """The policy was exchanged in the middle: the log has both texts, and each record names its own."""
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    async with Town(log, {"default": policy()}, contacts=1) as town:
        await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1"})
        await town.settle()
        town.book.exchange({"default": policy(("retries = 3", "retries = 0"))})
        await town.tell("conversation.opened", "v2", "c2", contact={"id": "c2"})
        await town.settle()
        town.now_ms += 60_000
        for conversation, contact in (("v1", "c1"), ("v2", "c2")):
            await town.tell("message.received", conversation, contact, text="hm")
        await town.settle()
    report = await replay(log)
    assert report.first_difference is None
    assert report.checked["policies"] == 2
    assert (await verify(log)).first_difference is None


def test_a_log_of_another_decider_comes_out_if_it_decided_the_same(tampered: Tampered) -> None:
    set_decider(tampered, 0)
    report = replayed(tampered.path)
    assert report.first_difference is None
    assert report.checked["decided by version 0"] > 50


# --- what does not ---


def test_a_forged_record_is_found_although_every_hash_is_right(tampered: Tampered) -> None:
    """``verify`` sees nothing wrong with it: only the decider knows that this input leads elsewhere."""
    place = tampered.find(ROUTING_LOG, "email.rejected")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["reason"] = "two-addresses"
    tampered.forge(ROUTING_LOG, *place, event)
    assert replayed(tampered.path, verify).passed
    report = replayed(tampered.path)
    assert_found(report, ROUTING_LOG, *place, field="data.reason")
    difference = report.first_difference
    assert difference is not None
    assert (difference.expected, difference.found) == ("no-address", "two-addresses")
    assert (difference.conversation, difference.contact, difference.workspace) == ("v1", "c1", "default")


def test_a_given_assignment_is_found(tampered: Tampered) -> None:
    place = tampered.find(ASSIGNMENTS_LOG, "assignment.made", strategy="round-robin")
    event = tampered.event(ASSIGNMENTS_LOG, *place)
    event["data"]["agent"] = "zoe"
    tampered.forge(ASSIGNMENTS_LOG, *place, event)
    assert_found(replayed(tampered.path), ASSIGNMENTS_LOG, *place, field="data.agent")


def test_personal_values_are_not_told(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "email.accepted", email_source="answer")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["pii"]["email"] = "somebody@else.example"
    tampered.forge(ROUTING_LOG, *place, event)
    report = replayed(tampered.path)
    assert_found(report, ROUTING_LOG, *place, field="data.pii.email")
    assert report.first_difference is not None
    assert (report.first_difference.expected, report.first_difference.found) == (HIDDEN, HIDDEN)


def test_a_record_that_follows_is_missed(tampered: Tampered) -> None:
    """The new address leads a conversation that waits for one on: that record was cut out."""
    partition, offset = tampered.find(ROUTING_LOG, "contact.changed")
    tampered.remove(ROUTING_LOG, partition, offset + 1)
    tp = tampered.tp(ROUTING_LOG, partition)
    ((end,),) = tampered.sql('SELECT "end" FROM partition WHERE tp = ?', tp)
    for old in range(offset + 2, end):
        tampered.sql('UPDATE record SET "offset" = ? WHERE tp = ? AND "offset" = ?', old - 1, tp, old)
    tampered.sql('UPDATE partition SET "end" = ? WHERE tp = ?', end - 1, tp)
    said = assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset + 1)
    assert "one more record" in said


def test_a_record_that_follows_is_missed_at_the_end_too(tampered: Tampered) -> None:
    partition, offset = tampered.find(ROUTING_LOG, "contact.changed")
    tampered.cut(ROUTING_LOG, partition, offset + 1)
    assert "one more record" in assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset + 1)


def test_a_record_that_nothing_leads_to_is_found(tampered: Tampered) -> None:
    """The same follow-up once more: today nothing follows a second time."""
    partition, offset = tampered.find(ROUTING_LOG, "contact.changed")
    tampered.insert(ROUTING_LOG, partition, offset + 2, copy_of=offset + 1)
    assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset + 2, field="data.input")


def test_an_input_that_leads_to_nothing_today_is_found(tampered: Tampered) -> None:
    """A late answer of the CRM: nobody waits for it any more."""
    partition, offset = tampered.find(ROUTING_LOG, "crm.resolved")
    tampered.insert(ROUTING_LOG, partition, offset + 1, copy_of=offset)
    assert "no record here" in assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset + 1)


def test_a_missing_record_is_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "crm.unresolved")
    tampered.remove(ROUTING_LOG, *place)
    assert "missing" in assert_found(replayed(tampered.path), ROUTING_LOG, *place)


def test_a_policy_that_was_exchanged_is_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "policy.recorded")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["text"] = event["data"]["text"].replace("retries = 3", "retries = 2")
    tampered.put(ROUTING_LOG, *place, orjson.dumps(event))
    assert_found(replayed(tampered.path), ROUTING_LOG, *place, field="id")


def test_a_policy_that_cannot_be_read_today_is_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "policy.recorded")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["text"] = "[workflow"
    tampered.put(ROUTING_LOG, *place, orjson.dumps(event))
    assert "cannot be read today" in assert_found(replayed(tampered.path), ROUTING_LOG, *place, field="data.text")


def test_a_policy_that_is_not_recorded_is_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "conversation.started")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["policy"] = "sha256:0123456789abcdef"
    tampered.put(ROUTING_LOG, *place, orjson.dumps(event))
    assert_found(replayed(tampered.path), ROUTING_LOG, *place, field="data.policy")


def test_a_policy_that_nothing_uses_is_found(tampered: Tampered) -> None:
    partition, offset = tampered.find(ROUTING_LOG, "policy.recorded")
    tampered.cut(ROUTING_LOG, partition, offset + 1)
    assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset)


def test_other_bytes_with_the_same_content_are_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "crm.resolved")
    tampered.put(ROUTING_LOG, *place, orjson.dumps(tampered.event(ROUTING_LOG, *place)) + b" ")
    assert "in other bytes" in assert_found(replayed(tampered.path), ROUTING_LOG, *place)


def test_another_key_is_found(tampered: Tampered) -> None:
    partition, offset = tampered.find(ROUTING_LOG, "crm.resolved")
    tampered.sql(
        'UPDATE record SET key = ? WHERE tp = ? AND "offset" = ?', b"x", tampered.tp(ROUTING_LOG, partition), offset
    )
    assert_found(replayed(tampered.path), ROUTING_LOG, partition, offset, field="(key)")


def test_an_input_that_cannot_be_read_is_found(tampered: Tampered) -> None:
    place = tampered.find(ROUTING_LOG, "email.rejected")
    event = tampered.event(ROUTING_LOG, *place)
    event["data"]["input"]["type"] = "message.sent"
    tampered.put(ROUTING_LOG, *place, orjson.dumps(event))
    assert_found(replayed(tampered.path), ROUTING_LOG, *place, field="data.input")


# --- when the deciders change ---


def test_a_decider_that_decides_otherwise_is_found(day: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(messages.INVALID_REASONS, "none", "no-idea")
    place = Tampered(day).find(ROUTING_LOG, "email.rejected")
    assert_found(replayed(day), ROUTING_LOG, *place, field="data.reason")


def test_the_difference_names_the_deciders_when_the_log_was_made_by_another(
    tampered: Tampered, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_decider(tampered, 0)
    monkeypatch.setitem(messages.INVALID_REASONS, "none", "no-idea")
    place = tampered.find(ROUTING_LOG, "email.rejected")
    said = assert_found(replayed(tampered.path), ROUTING_LOG, *place, field="data.reason")
    assert "version 0 of the decider, this is version 1" in said


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TransitionError("no way"), "refuses the input: no way"),
        (ValueError("ann@example.com"), "fails on the input with ValueError"),
    ],
)
def test_a_decider_that_fails_is_a_difference(
    day: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    """What an unexpected error says is not told: it may be personal."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(messages, "_rejected", fail)
    place = Tampered(day).find(ROUTING_LOG, "email.rejected")
    said = assert_found(replayed(day), ROUTING_LOG, *place)
    assert expected in said
    assert "ann@" not in said


def set_decider(tampered: Tampered, version: int) -> None:
    """Make the log one that another version of the deciders has written."""
    for topic, partitions in ((ROUTING_LOG, 2), (ASSIGNMENTS_LOG, 1)):
        for partition in range(partitions):
            for offset, event in enumerate(tampered.records(topic, partition)):
                if "decider" in event["data"]:
                    event["data"]["decider"] = version
                    tampered.put(topic, partition, offset, orjson.dumps(event))
            tampered.rehash(topic, partition)


# --- comparing ---


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, ("a.b[1]", "2", "3")),
        ({"a": [1]}, {"a": [1, 2]}, ("a[1]", "nothing", "2")),
        ({"a": 1}, {}, ("a", "1", "nothing")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, ("", "members in the order a, b", "in the order b, a")),
        ({"a": 1}, {"a": True}, ("a", "1", "true")),
        ({"data": {"pii": {"x": "1"}}}, {"data": {"pii": {"x": "2"}}}, ("data.pii.x", HIDDEN, HIDDEN)),
    ],
)  # fmt: skip
def test_the_first_difference_has_a_path(expected: Any, found: Any, difference: Any) -> None:
    assert compare(expected, found) == difference


def test_progress_is_told(day: Path) -> None:
    async def run() -> list[tuple[int, int]]:
        told: list[tuple[int, int]] = []
        async with SqliteLog(day) as log:
            await verify(log, on_progress=lambda done, total: told.append((done, total)))
        return told

    told = asyncio.run(run())
    assert told
    assert all(0 < done <= total for done, total in told)

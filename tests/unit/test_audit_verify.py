"""``verify`` passes what lanes write, and finds every kind of meddling at its place."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.audit.published import is_personal
from consumers.audit.replay import replay
from consumers.audit.report import NOTHING_THERE, BrokenError, Report
from consumers.audit.verify import verify
from events.memory import MemoryLog
from events.sqlite.log import SqliteLog
from events.topics import (
    AGENT_EVENTS,
    ASSIGNMENT_REQUESTS,
    ASSIGNMENTS,
    ASSIGNMENTS_LOG,
    CONVERSATION_EVENTS,
    CRM_ANSWERS,
    REPLIES,
    ROUTING_LOG,
    partition_counts,
)
from tests.audit_breaks import Found, check_found, forged, set_data, verified
from tests.audit_support import START_MS, Tampered, Town, ordinary_day, policy, random_day

# --- what is as it should be ---


async def report_of(path: Path) -> Report:
    async with SqliteLog(path) as log:
        return await verify(log)


def test_a_log_that_lanes_wrote_passes_and_says_what_was_checked(day: Path) -> None:
    async def run() -> dict[str, int]:
        async with SqliteLog(day) as log:
            report = await verify(log)
            assert report.passed, report.first_difference
            return report.checked

    checked = asyncio.run(run())
    assert checked["partitions"] == 3
    assert checked["records"] == sum(
        count for name, count in checked.items() if name.startswith(("routing.", "assignments."))
    )
    assert checked["outputs"] > 30
    assert checked["records with personal data"] > 10


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_log_passes(seed: int) -> None:
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    policies = {"default": policy(), "other": policy(("one_open_per_contact = true", "one_open_per_contact = false"))}
    async with Town(log, policies, contacts=3, workspaces=2) as town:
        await random_day(town, seed, 150)
    report = await verify(log)
    assert report.first_difference is None
    assert report.checked["records"] > 100
    assert report.checked["repeated outputs"] > 0


async def test_a_log_passes_while_its_lanes_work() -> None:
    """What is published but not yet marked, and what comes meanwhile, is no break."""
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    async with Town(log, {"default": policy()}) as town:
        verifying = asyncio.create_task(verify(log))
        await ordinary_day(town)
        assert (await verifying).first_difference is None
        assert (await verify(log)).first_difference is None


def test_an_output_that_was_sent_twice_is_no_break(tampered: Tampered) -> None:
    """Outputs come at least once: after a take-over the last ones come again."""
    tp = tampered.tp(ASSIGNMENTS, 1)
    ((end,),) = tampered.sql('SELECT "end" FROM partition WHERE tp = ?', tp)
    for index, offset in enumerate(range(end - 3, end)):
        tampered.sql(
            'INSERT INTO record SELECT tp, ?, time_ms, key, value, headers FROM record WHERE tp = ? AND "offset" = ?',
            end + index, tp, offset,
        )  # fmt: skip
    tampered.sql('UPDATE partition SET "end" = ? WHERE tp = ?', end + 3, tp)
    assert verified(tampered) is None


def in_binary_mode(t: Tampered, topic: str, partition: int, offset: int, **instead: str) -> None:
    """An input as a producer sends it whose attributes stand in headers."""
    event = t.event(topic, partition, offset) | instead
    names = ("specversion", "id", "source", "type", "time", "subject", "partitionkey", "workspace")
    headers = [(f"ce_{name}", str(event[name]).encode()) for name in names if name in event]
    t.put_headers(topic, partition, offset, [*headers, ("content-type", b"application/json")])
    t.put(topic, partition, offset, orjson.dumps(event["data"]))


def test_an_input_in_binary_mode_is_the_same_event(tampered: Tampered) -> None:
    in_binary_mode(tampered, CONVERSATION_EVENTS, 1, 2)
    assert verified(tampered) is None


def test_inputs_that_are_gone_are_no_break(tampered: Tampered) -> None:
    """Their topics keep them for days, and on Kafka have offsets that hold no record."""
    before = asyncio.run(report_of(tampered.path)).checked["inputs compared"]
    tampered.remove(CRM_ANSWERS, 1, 3)
    for offset in range(4):
        tampered.remove(CONVERSATION_EVENTS, 1, offset)
    tampered.remove(AGENT_EVENTS, 0, 2)
    report = asyncio.run(report_of(tampered.path))
    assert report.first_difference is None
    assert report.checked["inputs compared"] == before - 6


# --- breaks ---


def a_byte_is_changed(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "email.rejected")
    event = orjson.dumps(t.event(ROUTING_LOG, *place))
    t.put(ROUTING_LOG, *place, event.replace(b"no-address", b"no-addresx"))
    return Found("chain", ROUTING_LOG, *place)


def a_record_is_removed(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "email.rejected")
    t.remove(ROUTING_LOG, *place)
    return Found("offsets", ROUTING_LOG, *place)


def two_records_are_swapped(t: Tampered) -> Found:
    partition, offset = t.find(ROUTING_LOG, "email.rejected")
    events = [t.event(ROUTING_LOG, partition, offset + index) for index in (0, 1)]
    for index in (0, 1):
        t.put(ROUTING_LOG, partition, offset + index, orjson.dumps(events[1 - index]))
    return Found("seq and prev", ROUTING_LOG, partition, offset)


def a_record_is_inserted(t: Tampered) -> Found:
    partition, offset = t.find(ROUTING_LOG, "email.rejected")
    t.insert(ROUTING_LOG, partition, offset + 1, copy_of=offset)
    return Found("chain", ROUTING_LOG, partition, offset + 1)


def the_end_is_cut_inside_an_append(t: Tampered) -> Found:
    for offset in range(len(t.records(ASSIGNMENTS_LOG, 0)) - 1, 1, -1):
        if len(t.headers(ASSIGNMENTS_LOG, 0, offset)) == 3:
            t.cut(ASSIGNMENTS_LOG, 0, offset + 1)
            return Found("chain", ASSIGNMENTS_LOG, 0, offset)
    raise AssertionError("no append has two records")


def the_end_is_cut_between_appends(t: Tampered) -> Found:
    """The chain is whole; what was published from the rest shows it."""
    partition, offset = t.find(ROUTING_LOG, "email.timed-out")
    first = next(
        number for number, event in enumerate(t.records(REPLIES, partition)) if event["data"]["log"]["offset"] >= offset
    )
    t.cut(ROUTING_LOG, partition, offset)
    return Found("outputs", REPLIES, partition, first)


def a_record_is_emptied(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "crm.resolved")
    t.sql('UPDATE record SET value = NULL WHERE tp = ? AND "offset" = ?', t.tp(ROUTING_LOG, place[0]), place[1])
    return Found("record", ROUTING_LOG, *place)


def a_record_gets_another_key(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "crm.resolved")
    t.sql('UPDATE record SET key = ? WHERE tp = ? AND "offset" = ?', b"c2", t.tp(ROUTING_LOG, place[0]), place[1])
    return Found("partitions", ROUTING_LOG, *place)


def the_store_is_another(t: Tampered) -> Found:
    t.sql("UPDATE store SET cluster_id = 'another'")
    return Found("genesis", ROUTING_LOG, 0, 0)


def the_log_was_made_anew(t: Tampered) -> Found:
    headers = [(name, b"0" * 32 if name == "log-id" else value) for name, value in t.headers(ROUTING_LOG, 0, 2)]
    t.put_headers(ROUTING_LOG, 0, 2, headers)
    return Found("chain", ROUTING_LOG, 0, 2)


def a_record_has_blanks(t: Tampered) -> Found:
    offset = len(t.records(ROUTING_LOG, 0)) - 1
    t.put(ROUTING_LOG, 0, offset, orjson.dumps(t.event(ROUTING_LOG, 0, offset)) + b" ")
    return Found("ids", ROUTING_LOG, 0, offset)


def skip_a_number(event: dict[str, Any]) -> None:
    event["data"]["seq"] += 1
    event["id"] = f"{event['id'].rsplit('/', 2)[0]}/{event['data']['seq']}/0"


def go_back_in_time(event: dict[str, Any]) -> None:
    event["time"] = event["data"]["at"] = "2020-01-01T00:00:00.000Z"


def rename_it(event: dict[str, Any]) -> None:
    event["id"] = event["id"].replace("/1/0", "/9/0")


def cause_it_again(event: dict[str, Any]) -> None:
    event["data"]["cause"]["offset"] -= 1


def cause_it_later(event: dict[str, Any]) -> None:
    event["data"]["cause"]["offset"] += 1_000


def change_the_policy(event: dict[str, Any]) -> None:
    event["data"]["text"] = event["data"]["text"].replace("retries = 3", "retries = 2")


def keep_the_text(event: dict[str, Any]) -> None:
    event["data"]["input"]["text"] = "all right: ann.lee@example.com"


def lie_about_a_load(event: dict[str, Any]) -> None:
    event["data"]["candidates"][0]["open"] += 1


def be_early(event: dict[str, Any]) -> None:
    event["data"]["input"]["time_ms"] += 60_000_000


def follow_from_another(event: dict[str, Any]) -> None:
    event["data"]["cause"]["id"] = "e1"


FORGERIES = {
    "a deadline fires early": forged(ROUTING_LOG, "email.timed-out", "time", be_early),
    "a run is skipped": forged(ROUTING_LOG, "crm.resolved", "seq and prev", set_data(run=5)),
    "a record follows from another input": forged(
        ROUTING_LOG, "email.accepted", "causes", follow_from_another, email_source="record"
    ),
    "a number is skipped": forged(ROUTING_LOG, "email.accepted", "seq and prev", skip_a_number),
    "an id is another": forged(ROUTING_LOG, "conversation.started", "ids", rename_it),
    "time runs backwards": forged(ROUTING_LOG, "email.accepted", "time", go_back_in_time),
    "a transition is illegal": forged(
        ROUTING_LOG, "email.timed-out", "transitions", set_data(to="routed-vip")
    ),
    "a state was another": forged(ROUTING_LOG, "email.accepted", "transitions", set_data(from_="email-retry-2")),
    "an ignored opening opens": forged(ROUTING_LOG, "input.ignored", "transitions", set_data(to="routed-vip")),
    "an input counts twice": forged(ROUTING_LOG, "email.rejected", "causes", cause_it_again),
    "an input was not decided yet": forged(ROUTING_LOG, "email.rejected", "causes", cause_it_later),
    "a policy is exchanged": forged(ROUTING_LOG, "policy.recorded", "policies", change_the_policy),
    "a policy is unknown": forged(
        ROUTING_LOG, "conversation.started", "policies", set_data(policy="sha256:0123456789abcdef")
    ),
    "an address leaks": forged(ROUTING_LOG, "email.accepted", "personal data", set_data(note="to Ann.Lee@example.com"),
                               email_source="answer"),
    "a name leaks": forged(ROUTING_LOG, "conversation.started", "personal data", set_data(greeting="Ann Lee"),
                           to="awaiting-email", language="fr"),
    "a text is kept": forged(ROUTING_LOG, "email.accepted", "personal data", keep_the_text, email_source="answer"),
    "an owner appears from nowhere": forged(ASSIGNMENTS_LOG, "assignment.released", "one owner", set_data(agent="zoe")),
    "a candidate's load is a lie": forged(
        ASSIGNMENTS_LOG, "assignment.made", "max_open", lie_about_a_load, strategy="round-robin"
    ),
}  # fmt: skip


def a_conversation_has_two_owners(t: Tampered) -> Found:
    partition, offset = t.find(ASSIGNMENTS_LOG, "assignment.made", agent="anna")
    event = t.event(ASSIGNMENTS_LOG, partition, offset)
    event["data"].update(agent="tess", strategy="dedicated", **by_deadline())
    end = t.append(ASSIGNMENTS_LOG, partition, event)
    return Found("one owner", ASSIGNMENTS_LOG, partition, end)


def an_agent_gets_too_many(t: Tampered) -> Found:
    partition, offset = t.find(ASSIGNMENTS_LOG, "assignment.made", agent="anna")
    event = t.event(ASSIGNMENTS_LOG, partition, offset)
    for number in range(2, 21):  # anna has two and may have 20
        event["subject"], event["id"] = f"more{number}", f"c1/more{number}/1/0"
        line = {"agent": "anna", "open": number, "max_open": 20, "presence": "online"}
        event["data"].update(run=0, candidates=[line], **by_deadline())
        end = t.append(ASSIGNMENTS_LOG, partition, event)
    return Found("max_open", ASSIGNMENTS_LOG, partition, end)


def exchanged(topic: str, field: str, value: str) -> Callable[[Tampered], Found]:
    """Another event stands where the first input of a topic's first partition stood."""

    def plant(t: Tampered) -> Found:
        event = t.event(topic, 0, 0)
        t.put(topic, 0, 0, orjson.dumps(event | {field: value}))
        log = ASSIGNMENTS_LOG if topic == AGENT_EVENTS else ROUTING_LOG
        offset = next(
            number for number, record in enumerate(t.records(log, 0))
            if (record["data"].get("cause") or {}).get("topic") == topic
        )  # fmt: skip
        return Found("causes", log, 0, offset)

    return plant


def an_input_in_binary_mode_is_another(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "email.rejected")
    cause = t.event(ROUTING_LOG, *place)["data"]["cause"]
    in_binary_mode(t, cause["topic"], cause["partition"], cause["offset"], id="e99")
    return Found("causes", ROUTING_LOG, *place)


def an_input_is_no_event_any_more(t: Tampered) -> Found:
    place = t.find(ROUTING_LOG, "email.rejected")
    cause = t.event(ROUTING_LOG, *place)["data"]["cause"]
    t.put(cause["topic"], cause["partition"], cause["offset"], b"[]")
    return Found("causes", ROUTING_LOG, *place)


INPUTS = {
    "an opening has another id": exchanged(CONVERSATION_EVENTS, "id", "e99"),
    "an opening has another type": exchanged(CONVERSATION_EVENTS, "type", "conversation.closed"),
    "an opening has another source": exchanged(CONVERSATION_EVENTS, "source", "/elsewhere"),
    "an answer of the CRM has another id": exchanged(CRM_ANSWERS, "id", "e99"),
    "an agent's event has another type": exchanged(AGENT_EVENTS, "type", "agent.removed"),
    "an input in binary mode is another": an_input_in_binary_mode_is_another,
    "an input is no event any more": an_input_is_no_event_any_more,
}


def an_output_names_another_agent(t: Tampered) -> Found:
    place = t.find(ASSIGNMENTS, "conversation.assigned", agent="anna")
    event = t.event(ASSIGNMENTS, *place)
    event["data"]["agent"] = "ed"
    t.put(ASSIGNMENTS, *place, orjson.dumps(event))
    return Found("outputs", ASSIGNMENTS, *place)


def by_deadline() -> dict[str, Any]:
    told = {"type": "deadline.passed", "kind": "wait", "seq": 1, "source": "", "time_ms": START_MS}
    cause = {"topic": None, "partition": None, "offset": None, "id": "deadline/wait/1"}
    return {"input": told, "cause": cause}


def with_header(name: str, change: Callable[[bytes], bytes], check: str) -> Callable[[Tampered], Found]:
    def plant(t: Tampered) -> Found:
        place = t.find(ROUTING_LOG, "email.timed-out")
        place = (place[0], place[1])
        headers = [(own, change(value) if own == name else value) for own, value in t.headers(ROUTING_LOG, *place)]
        assert headers != t.headers(ROUTING_LOG, *place)
        t.put_headers(ROUTING_LOG, *place, headers)
        return Found(check, ROUTING_LOG, *place)

    return plant


def lower(value: bytes) -> bytes:
    return orjson.dumps({topic: offset - 1 for topic, offset in orjson.loads(value).items()})


def beyond(value: bytes) -> bytes:
    return orjson.dumps({topic: offset + 1_000 for topic, offset in orjson.loads(value).items()})


HEADERS = {
    "a position goes back": with_header("positions", lower, "causes"),
    "a position lies beyond its topic": with_header("positions", beyond, "causes"),
    "the mark goes back": with_header("mark", lambda _: b"0", "causes"),
    "the mark runs ahead": with_header("mark", lambda _: b"1000", "causes"),
}


def an_output_is_forged(t: Tampered) -> Found:
    place = t.find(REPLIES, "reply.requested", kind="retry")
    event = t.event(REPLIES, *place)
    event["data"]["text"] = "send your password"
    t.put(REPLIES, *place, orjson.dumps(event))
    return Found("outputs", REPLIES, *place)


def an_output_is_missing(t: Tampered) -> Found:
    place = t.find(ASSIGNMENTS, "conversation.assigned", agent="anna")
    source = t.event(ASSIGNMENTS, *place)["data"]["log"]
    t.remove(ASSIGNMENTS, *place)
    return Found("outputs", ASSIGNMENTS_LOG, source["partition"], source["offset"])


def the_last_output_is_missing(t: Tampered) -> Found:
    end = len(t.records(ASSIGNMENT_REQUESTS, 0)) - 1
    source = t.event(ASSIGNMENT_REQUESTS, 0, end)["data"]["log"]
    t.remove(ASSIGNMENT_REQUESTS, 0, end)
    return Found("outputs", ROUTING_LOG, source["partition"], source["offset"])


def an_output_is_invented(t: Tampered) -> Found:
    partition, offset = t.find(REPLIES, "reply.requested", kind="success")
    event = t.event(REPLIES, partition, offset)
    event["data"]["n"] = 7
    t.insert(REPLIES, partition, offset + 1, copy_of=offset, value=orjson.dumps(event))
    return Found("outputs", REPLIES, partition, offset + 1)


def a_repeat_says_something_else(t: Tampered) -> Found:
    partition, offset = t.find(REPLIES, "reply.requested", kind="ask", language="fr")
    event = t.event(REPLIES, partition, offset)
    event["data"]["text"] = "send your password"
    end = len(t.records(REPLIES, partition))
    t.insert(REPLIES, partition, end, copy_of=offset, value=orjson.dumps(event))
    return Found("outputs", REPLIES, partition, end)


def an_output_comes_from_another_log(t: Tampered) -> Found:
    place = t.find(ASSIGNMENTS, "conversation.queued")
    event = t.event(ASSIGNMENTS, *place)
    event["data"]["log"]["id"] = "0" * 32
    end = len(t.records(ASSIGNMENTS, place[0]))
    t.insert(ASSIGNMENTS, place[0], end, copy_of=place[1], value=orjson.dumps(event))
    return Found("outputs", ASSIGNMENTS, place[0], end)


def a_stranger_writes_on_a_topic_of_ours(t: Tampered) -> Found:
    end = len(t.records(ASSIGNMENTS, 0))
    t.insert(ASSIGNMENTS, 0, end, copy_of=0, value=b'{"hello":1}')
    return Found("outputs", ASSIGNMENTS, 0, end)


def a_reply_text_is_forged_in_the_log(t: Tampered) -> Found:
    """The chain was made right again; the reply that went out tells."""
    place = t.find(ROUTING_LOG, "email.rejected")
    event = t.event(ROUTING_LOG, *place)
    event["data"]["pii"]["reply"] = "something else"
    t.forge(ROUTING_LOG, *place, event)
    number = next(
        number for number, out in enumerate(t.records(REPLIES, place[0])) if out["data"]["log"]["offset"] == place[1]
    )
    return Found("outputs", REPLIES, place[0], number)


PLAIN = [
    a_byte_is_changed, a_record_is_removed, two_records_are_swapped, a_record_is_inserted,
    the_end_is_cut_inside_an_append, the_end_is_cut_between_appends, a_record_is_emptied, a_record_gets_another_key,
    the_store_is_another, the_log_was_made_anew, a_record_has_blanks, a_conversation_has_two_owners,
    an_agent_gets_too_many, an_output_is_forged, an_output_is_missing, the_last_output_is_missing,
    an_output_is_invented, a_repeat_says_something_else, an_output_comes_from_another_log,
    a_stranger_writes_on_a_topic_of_ours, a_reply_text_is_forged_in_the_log, an_output_names_another_agent,
]  # fmt: skip
BREAKS = {**{plant.__name__.replace("_", " "): plant for plant in PLAIN}, **FORGERIES, **HEADERS, **INPUTS}


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_is_found_at_its_place(name: str, tampered: Tampered) -> None:
    check_found(tampered, BREAKS[name](tampered))


@pytest.mark.parametrize("name", ["an address leaks", "a name leaks", "a text is kept", "an output is forged"])
def test_a_report_does_not_tell_what_is_personal(name: str, tampered: Tampered) -> None:
    BREAKS[name](tampered)
    told = str(verified(tampered)).casefold()
    assert "ann.lee" not in told
    assert "ann lee" not in told
    assert "password" not in told


def test_a_report_tells_what_is_not_personal(tampered: Tampered) -> None:
    an_output_names_another_agent(tampered)
    told = verified(tampered)
    assert told is not None
    assert (told.field, told.expected, told.found) == ("data.agent", "anna", "ed")


def test_a_value_that_is_left_out_stands_nowhere_in_a_report(tampered: Tampered) -> None:
    """It is not told as null, which it may have been."""
    an_output_is_forged(tampered)
    told = verified(tampered)
    assert told is not None
    assert told.field == "data.text"
    assert {"expected", "found"}.isdisjoint(told.as_json())
    assert re.search("expected:|found:|null", str(told)) is None
    given = BrokenError("nothing was expected", field="data.prev", expected=None, found="sha256:1")
    assert (given.expected, given.found) == ("null", "sha256:1")


@pytest.mark.parametrize(
    ("path", "value", "personal"),
    [
        ("data.text", "Hello Ann", True),
        ("data.contact.email", "nothing", True),
        ("data.variables.account", "7", True),
        ("data.channel.id", "+41 79 000 00 00", True),
        ("data.target", '{"agent":"anna"}', True),
        ("data.agent", "ann.lee@example.com", True),
        ("", "anything", True),
        ("data.agent", "anna", False),
        ("data.route", "vip", False),
        ("data.target.fallback.team", "support", False),
        ("data.seq", "3", False),
        ("id", "c1/v1/2/1", False),
        ("data.policy", "nothing", False),
    ],
)  # fmt: skip
def test_what_of_an_output_is_personal(path: str, value: str, *, personal: bool) -> None:
    assert is_personal(path, value, "nothing") is personal


async def test_topics_with_unequal_partition_counts_are_a_break() -> None:
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    async with Town(log, {"default": policy()}) as town:
        await town.tell("conversation.opened", "v1", "c1", contact={"id": "c1"})
        await town.settle()
    log._topics["conversations.replies"].pop()
    difference = (await verify(log)).first_difference
    assert difference is not None
    assert (difference.check, difference.place.topic) == ("partition counts", "conversations.replies")


@pytest.mark.parametrize("audit", [verify, replay], ids=["verify", "replay"])
async def test_a_log_that_holds_nothing_does_not_pass(audit: Callable[..., Any]) -> None:
    """A copy that lacks the write-ahead log is an empty log, with its topics or without: no audit may praise it."""
    log = MemoryLog(cluster_id="c", clock_ms=lambda: START_MS)
    for topics in ({}, partition_counts(4, 1)):
        await log.create_topics(topics)
        report = await audit(log)
        assert not report.passed
        assert report.first_difference.check == NOTHING_THERE
        assert report.first_difference.sentence.startswith("This log holds nothing")
        assert str(report.first_difference.place) == "routing.log/0"

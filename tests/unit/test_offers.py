"""What happens where agents are asked first: offers, answers, and answers that come too late."""

from __future__ import annotations

from typing import Any

import pytest

from events.outputs import Origin, assignment_outputs
from events.topics import ASSIGNMENTS_LOG
from routing.decider import LogRecord
from routing.inputs import AgentPresence, AssignmentAccepted, PoolTarget, RouteTarget
from tests.workspace_given import MANAGERS, Lane, given_to, types

ACCEPT = RouteTarget(team="support", accept_ms=30_000)
ORIGIN = Origin(ASSIGNMENTS_LOG, 0, "log", contact_partitions=1, workspace_partitions=1)


@pytest.fixture
def lane() -> Lane:
    """A desk of two, by today's rules."""
    lane = Lane()
    lane.rules()
    for agent in ("anna", "bob"):
        lane.has(agent, "support")
        lane.sees(agent, "online")
    return lane


def offered(records: list[LogRecord]) -> list[tuple[str | None, str]]:
    """What was offered to whom."""
    return [(record.subject, record.data["agent"]) for record in records if record.type == "assignment.offered"]


def told(record: LogRecord) -> list[bytes]:
    """The outputs of a record."""
    return [output.value or b"" for output in assignment_outputs(record, ORIGIN)]


def only_reason(records: list[LogRecord]) -> Any:
    """Why the only record says that an input had no effect."""
    assert types(records) == ["input.ignored"]
    return records[0].data["reason"]


def test_an_offer_says_until_when_and_counts_as_open_until_it_is_answered(lane: Lane) -> None:
    (record,) = lane.asks("c1", ACCEPT)
    assert (record.type, record.data["agent"], record.data["until_ms"]) == (
        "assignment.offered", "anna", lane.now_ms + 30_000,
    )  # fmt: skip
    assert (lane.open("anna"), lane.part("c1").status) == (1, "offered")
    lane.has("anna", "support", max_open=1)
    lane.sees("bob", "offline")
    assert types(lane.asks("c2")) == ["assignment.queued"]


def test_the_output_of_an_offer_has_agent_token_and_until(lane: Lane) -> None:
    (record,) = lane.asks("c1", ACCEPT)
    (value,) = told(record)
    assert record.data["token"].encode() in value
    assert b'"type":"conversation.offered"' in value
    assert b'"until":"1970-01-01T00:17:10.000Z"' in value or b'"until":"1970-01-01T00:17:10Z"' in value


def test_who_accepts_has_it_and_the_wait_counts_until_then(lane: Lane) -> None:
    lane.asks("c1", ACCEPT)
    lane.now_ms += 4_000
    (record,) = lane.accepts("anna", "c1")
    data = record.data
    assert (data["from"], data["to"], data["agent"], data["reason"], data["strategy"]) == (
        "offered", "assigned", "anna", "accepted", "round-robin",
    )  # fmt: skip
    assert (data["waited_ms"], "released" in data, lane.open("anna")) == (4_000, False, 1)


def test_a_token_is_the_same_in_every_replay_and_another_in_every_offer(lane: Lane) -> None:
    token = lane.asks("c1", ACCEPT)[0].data["token"]
    again = Lane()
    again.rules()
    for agent in ("anna", "bob"):
        again.has(agent, "support")
        again.sees(agent, "online")
    assert again.asks("c1", ACCEPT)[0].data["token"] == token
    assert lane.declines("anna", "c1")[1].data["token"] != token


def test_who_declines_passes_it_on_and_is_not_counted_as_missing(lane: Lane) -> None:
    lane.asks("c1", ACCEPT)
    released, record = lane.declines("anna", "c1")
    assert (released.data["reason"], released.data["passed"], released.data["to"]) == ("declined", ["anna"], "waiting")
    assert (record.type, record.data["agent"]) == ("assignment.offered", "bob")
    assert lane.open("anna") == 0
    withdrawn, queued = told(released)
    assert b'"type":"conversation.offer-withdrawn"' in withdrawn
    assert b'"type":"conversation.queued"' in queued


def test_no_answer_in_time_passes_it_on(lane: Lane) -> None:
    lane.asks("c1", ACCEPT)
    assert lane.passes(29_999) == []
    released, record = lane.passes(1)
    assert (released.data["reason"], record.data["agent"]) == ("offer-missed", "bob")


def test_who_did_not_accept_comes_after_all_others_but_before_nobody(lane: Lane) -> None:
    """While somebody else is free he is passed over; if he is the only one, he is asked again."""
    lane.asks("c1", ACCEPT)
    _, second = lane.declines("anna", "c1")
    lines = {line["agent"]: line.get("passed_over") for line in second.data["candidates"]}
    assert lines == {"anna": "did-not-accept", "bob": None}
    assert offered(lane.declines("bob", "c1")) == [("c1", "anna")]


def test_after_so_many_missed_offers_an_agent_is_away_until_he_says_otherwise(lane: Lane) -> None:
    lane.rules(missed_offers_max=2)
    lane.sees("bob", "offline")
    lane.asks("c1", ACCEPT)
    records = lane.passes(60_000)
    assert types(records) == [
        "assignment.released", "assignment.offered", "assignment.released", "agent.changed",
    ]  # fmt: skip
    changed = records[-1].data
    assert (changed["what"], changed["presence"], changed["held"]) == ("missed", "away", "missed")
    assert lane.part("c1").status == "waiting"
    assert offered(lane.sees("anna", "online")) == [("c1", "anna")]


def test_a_heartbeat_does_not_bring_back_who_missed_his_offers(lane: Lane) -> None:
    """His client beats on though nobody sits there; he is back when he says something else first."""
    lane.rules(missed_offers_max=1, presence_ttl_ms=600_000)
    lane.sees("bob", "offline")
    lane.asks("c1", ACCEPT)
    lane.passes(30_000)
    assert offered(lane.sees("anna", "online")) == []
    lane.sees("anna", "away")
    assert offered(lane.sees("anna", "online")) == [("c1", "anna")]


def test_an_answer_ends_the_row_of_missed_offers(lane: Lane) -> None:
    lane.rules(missed_offers_max=2)
    lane.sees("bob", "offline")
    lane.asks("c1", ACCEPT)
    lane.passes(30_000)
    lane.accepts("anna", "c1")
    lane.asks("c2", ACCEPT)
    assert types(lane.passes(30_000)) == ["assignment.released", "assignment.offered"]


def test_a_late_accept_is_refused_with_an_event(lane: Lane) -> None:
    token = lane.asks("c1", ACCEPT)[0].data["token"]
    lane.passes(30_000)
    records = lane.accepts("anna", "c1", token)
    assert only_reason(records) == "wrong-token"
    (value,) = told(records[0])
    assert b'"type":"conversation.accept-refused"' in value
    assert token.encode() in value
    assert (records[0].contact, records[0].subject) == ("contact-of-c1", "c1")


@pytest.mark.parametrize(
    ("act", "reason", "events"),
    [
        (lambda lane: lane.accepts("anna", "taken"), "already-accepted", 0),
        (lambda lane: lane.accepts("bob", "taken"), "offer-over", 1),
        (lambda lane: lane.accepts("anna", "ended", "t"), "offer-over", 1),
        (lambda lane: lane.declines("anna", "ended", "t"), "offer-over", 0),
        (lambda lane: lane.accepts("anna", "offered", "t"), "wrong-token", 1),
        (lambda lane: lane.accepts("stranger", "offered"), "wrong-token", 1),
        (lambda lane: lane.accepts("anna", "never", "t"), "no-offer", 0),
        (lambda lane: lane.asks("offered"), "already-offered", 0),
        (lambda lane: lane.takes("offered", None), "already-offered", 0),
        (lambda lane: lane.refuses("offered"), "already-offered", 0),
    ],
)
def test_an_answer_that_counts_for_nothing_says_why(lane: Lane, act: Any, reason: str, events: int) -> None:
    lane.asks("taken", ACCEPT)
    lane.accepts("anna", "taken")
    lane.asks("ended", ACCEPT)
    lane.ends("ended")
    lane.asks("offered", ACCEPT)
    records = act(lane)
    assert only_reason(records) == reason
    assert len(told(records[0])) == events
    assert lane.part("offered").status == "offered"


def test_an_accept_at_the_last_moment_counts_and_after_it_does_not(lane: Lane) -> None:
    """The lane decides what came in time before the deadline, so only the clock says what is late."""
    lane.asks("c1", ACCEPT)
    token = lane.part("c1").offer
    assert token is not None
    lane.now_ms += 30_000
    assert only_reason(lane.accepts("anna", "c1")) == "offer-over"
    lane.now_ms -= 1
    assert given_to(lane.accepts("anna", "c1")) == [("c1", "anna")]


def test_by_hand_ends_an_offer(lane: Lane) -> None:
    """Taken by somebody else, the offer is withdrawn; taken by who was asked, he has it and his answer is known."""
    lane.asks("c1", ACCEPT)
    (record,) = lane.takes("c1", "bob")
    assert record.data["released"] == {"agent": "anna", "reason": "taken-by-hand"}
    lane.asks("c2", ACCEPT)
    assert offered(lane.records)[-1] == ("c2", "bob")
    (record,) = lane.takes("c2", "bob")
    assert "released" not in record.data
    assert only_reason(lane.accepts("bob", "c2")) == "already-accepted"


def test_the_wait_goes_on_where_it_was_when_an_offer_was_not_accepted(lane: Lane) -> None:
    """Its place and its deadlines are those of the first moment."""
    lane.sees("bob", "offline")
    target = RouteTarget(team="support", accept_ms=30_000, wait_max_ms=40_000)
    asked_ms = lane.now_ms
    lane.asks("c1", target, escalation=MANAGERS)
    released = lane.passes(30_000)[0].data
    assert (released["since_ms"], released["queued_ms"]) == (asked_ms, asked_ms)
    assert released["deadlines"] == {"wait": asked_ms + 40_000}
    lane.has("maya", "managers")
    (released_again, made) = lane.passes(30_000)
    assert (released_again.data["route_reason"], made.data["agent"]) == ("waited", "maya")


def test_an_offered_conversation_of_a_removed_agent_goes_to_the_next(lane: Lane) -> None:
    lane.asks("c1", ACCEPT)
    records = lane.loses("anna")
    assert types(records) == ["agent.changed", "assignment.released", "assignment.offered"]
    assert offered(records) == [("c1", "bob")]


def test_the_wait_goes_on_where_it_was_when_the_agent_of_an_offer_is_removed(lane: Lane) -> None:
    """It never had an owner: the contact has waited all the time."""
    asked_ms = lane.now_ms
    lane.asks("c1", ACCEPT)
    lane.passes(10_000)
    (_changed, released, _offered) = lane.loses("anna")
    assert released.data["queued_ms"] == asked_ms
    (made, *_) = lane.accepts("bob", "c1")
    assert made.data["waited_ms"] == 10_000


def test_a_joined_conversation_waits_for_the_answer_and_follows_without_an_offer(lane: Lane) -> None:
    lane.asks("c1", ACCEPT, contact="contact-of-c1")
    assert types(lane.asks("c2", ACCEPT, contact="contact-of-c1", join="c1")) == ["assignment.queued"]
    assert given_to(lane.accepts("anna", "c1")) == [("c1", "anna"), ("c2", "anna")]


def test_a_dedicated_agent_who_does_not_answer_gives_way_to_the_open_fallback(lane: Lane) -> None:
    target = RouteTarget(agent="anna", fallback=PoolTarget(team="support"), fallback_after_ms=10_000, accept_ms=30_000)
    assert offered(lane.asks("c1", target)) == [("c1", "anna")]
    (released, second) = lane.passes(30_000)
    assert released.data["fallback_open"] is True
    assert offered([second]) == [("c1", "bob")]


def test_the_record_of_an_answer_says_who_gave_it(lane: Lane) -> None:
    """So that a replay can ask again."""
    lane.asks("c1", ACCEPT)
    given = lane.accepts("anna", "c1")[0].data["input"]
    assert (given["type"], given["agent"]) == ("assignment.accepted", "anna")


def test_other_events_of_agents_are_not_taken_for_answers(lane: Lane) -> None:
    lane.asks("c1", ACCEPT)
    body = AssignmentAccepted(conversation="c1", contact="contact-of-c1", token="t")
    assert only_reason(lane.tell(lane.agent_event(body, ""))) == "no-agent"
    assert types(lane.tell(lane.agent_event(AgentPresence(status="away"), "bob"))) == ["agent.changed"]

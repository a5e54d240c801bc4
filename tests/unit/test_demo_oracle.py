"""The demo's oracle: what it observes on the public topics, and every difference from what was expected."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from consumers.demo.comparing import differences, is_settled, what_happened
from consumers.demo.examples import Examples, Expected
from consumers.demo.observed import Observed
from events.dead_letters import dead_letter
from events.log import NewRecord, StoredRecord
from events.topics import ASSIGNMENTS, ASSIGNMENTS_LOG, CONVERSATION_EVENTS, REPLIES

ASSIGNED: dict[str, Any] = {
    "route": "vip", "route_reason": "vip", "agent": "anna", "strategy": "dedicated", "reason": "dedicated",
    "waited_ms": 0, "language": "fr",
}  # fmt: skip
EXPECTED = Expected(
    conversation="v1", case="valid-answer", outcome="assigned", route="vip", reason="vip", agent="anna",
    replies=("ask", "success"),
)  # fmt: skip


def output(topic: str, type_: str, seq: int, n: int = 1, conversation: str = "v1", **data: Any) -> StoredRecord:
    event = {
        "type": type_,
        "subject": conversation,
        "partitionkey": "c1",
        "data": {"run": 1, "seq": seq, "n": n, **data},
    }
    return StoredRecord(topic, 0, 0, b"c1", orjson.dumps(event), (), 0)


def stored(record: NewRecord) -> StoredRecord:
    return StoredRecord(record.topic, record.partition, 0, record.key, record.value, record.headers, 0)


def observed(*records: StoredRecord) -> Observed:
    found = Observed()
    for record in records:
        found.take(record)
    return found


def the_usual() -> list[StoredRecord]:
    return [
        output(REPLIES, "reply.requested", 1, kind="ask", attempt=1, text="?"),
        output(REPLIES, "reply.requested", 2, kind="success", attempt=1, text="!"),
        output(REPLIES, "contact.email-captured", 2, 2),
        output(ASSIGNMENTS, "conversation.assigned", 1, **ASSIGNED),
    ]


def compared(expected: Expected, *records: StoredRecord) -> list[str]:
    examples = Examples(folder=Path(), steps=(), expected={expected.conversation: expected})
    return differences(examples, observed(*records))


def test_what_came_as_expected_is_no_difference():
    assert compared(EXPECTED, *the_usual()) == []
    assert what_happened(observed(*the_usual()).of("v1")) == "asked, gave the address"


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        ({"outcome": "not-routed"}, "outcome: expected not-routed, came assigned"),
        ({"route": "regular"}, "route: expected regular, came vip"),
        ({"reason": "not-vip"}, "reason: expected not-vip, came vip"),
        ({"agent": "maya"}, "agent: expected maya, came anna"),
        ({"team": "support"}, "team: expected support, came anna of no team"),
        ({"replies": ("ask",)}, "replies: expected ask, came ask success"),
        ({"waited": True}, "waited in the queue: expected True, came False"),
        ({"assignments": 2}, "assignments: expected 2, came 1"),
        ({"runs": 2}, "runs: expected 2, came 1"),
        ({"closed": True}, "closed: expected True, came False"),
    ],
)
def test_every_planted_expectation_is_found(planted, told):
    assert f"v1: {told}" in compared(replace(EXPECTED, **planted), *the_usual())


def test_a_conversation_of_which_nothing_came_is_a_difference():
    assert compared(EXPECTED) == ["v1: nothing came of it, expected: assigned"]


def test_a_conversation_that_nobody_expected_is_a_difference():
    stray = output(ASSIGNMENTS, "conversation.assigned", 1, conversation="v2", **ASSIGNED)
    assert compared(EXPECTED, *the_usual(), stray) == ["v2: nothing was expected of it, it is assigned"]


def test_a_second_assignment_is_a_difference():
    again = output(ASSIGNMENTS, "conversation.assigned", 2, **ASSIGNED)
    assert compared(EXPECTED, *the_usual(), again) == ["v1: assignments: expected 1, came 2"]


def test_outputs_that_come_again_are_dropped_and_counted():
    found = observed(*the_usual(), *the_usual()[2:])
    assert (found.of("v1").assignments, found.outputs, found.copies) == (1, 4, 2)


def test_a_dead_letter_is_the_outcome_of_the_conversation_that_it_names():
    raw = StoredRecord(CONVERSATION_EVENTS, 0, 7, b"c1", b'{"subject": "v1"}', (), 0)
    found = observed(stored(dead_letter(raw, "bad-data", "data.contact: ...", now_ms=0)))
    assert (found.of("v1").outcome, found.of("v1").reason) == ("dead-letter", "bad-data")


def test_what_became_of_an_agent_is_read_from_the_log():
    data = {"what": "presence", "presence": "offline"}
    event = orjson.dumps({"type": "agent.changed", "subject": "anna", "data": data})
    found = observed(StoredRecord(ASSIGNMENTS_LOG, 0, 0, None, event, (), 0))
    assert found.agent("anna").happened == {"offline": 1, "changed": 1}


def test_a_conversation_that_is_to_be_closed_later_has_settled_before():
    """Scenes end when their conversations have settled; what happens to one in a later scene is not waited for."""
    story = observed(*the_usual()).of("v1")
    closed = replace(EXPECTED, closed=True)
    assert is_settled(closed, story, at_its_end=False)
    assert not is_settled(closed, story, at_its_end=True)

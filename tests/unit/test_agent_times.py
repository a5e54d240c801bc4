"""What time does to agents: presence that lapses, room that ended conversations still take."""

from __future__ import annotations

import pytest

from routing.inputs import AgentPresence, ConfiguredAgent, RouteTarget
from tests.workspace_given import Lane, given_to, types

TTL_MS = 120_000
LONGEST_MS = TTL_MS + TTL_MS // 4


@pytest.fixture
def lane() -> Lane:
    """A desk where presence is a lease."""
    lane = Lane()
    lane.rules(presence_ttl_ms=TTL_MS)
    lane.has("anna", "support")
    return lane


def test_an_agent_whose_heartbeats_stop_is_offline(lane: Lane) -> None:
    lane.sees("anna", "online")
    assert lane.passes(LONGEST_MS - 1) == []
    (record,) = lane.passes(1)
    assert (record.data["what"], record.data["from"], record.data["to"]) == ("lapsed", "online", "offline")
    assert types(lane.asks("c1")) == ["assignment.queued"]


def test_an_agent_is_never_offline_before_the_whole_time_has_passed_since_his_last_heartbeat(lane: Lane) -> None:
    """Not every heartbeat makes a record, and the lease covers those that did not."""
    lane.sees("anna", "online")
    recorded = 0
    for _ in range(100):
        assert [record.data["what"] for record in lane.passes(TTL_MS // 8)] == []
        recorded += len(lane.sees("anna", "online"))
    assert recorded == 50
    assert lane.passes(TTL_MS) == []
    assert len(lane.passes(TTL_MS // 4)) == 1


def test_a_heartbeat_brings_back_who_was_not_heard_of(lane: Lane) -> None:
    lane.sees("anna", "online")
    lane.passes(LONGEST_MS)
    lane.asks("c1")
    assert given_to(lane.sees("anna", "online")) == [("c1", "anna")]


def test_an_agent_without_any_presence_event_stays_online(lane: Lane) -> None:
    lane.passes(10 * LONGEST_MS)
    assert given_to(lane.asks("c1")) == [("c1", "anna")]


@pytest.mark.parametrize("status", ["online", "away"])
def test_a_late_copy_of_an_old_heartbeat_revives_nobody(lane: Lane, status: str) -> None:
    lane.sees("anna", "online")
    old_ms = lane.now_ms
    lane.passes(10 * LONGEST_MS)
    event = lane.agent_event(AgentPresence(status=status), "anna", time_ms=old_ms + 1)  # type: ignore[arg-type]
    (record,) = lane.tell(event)
    assert record.data["reason"] == "lease-over"
    assert types(lane.asks("c1")) == ["assignment.queued"]


def test_who_says_that_he_is_offline_has_no_lease(lane: Lane) -> None:
    lane.sees("anna", "offline")
    assert lane.workspaces.next_due_ms() is None


def test_leases_begin_when_the_policy_begins_to_ask_for_heartbeats() -> None:
    lane = Lane()
    lane.rules()
    lane.has("anna", "support")
    lane.sees("anna", "online")
    lane.passes(10 * LONGEST_MS)
    lane.rules(presence_ttl_ms=TTL_MS)
    assert lane.passes(LONGEST_MS - 1) == []
    assert [record.data["what"] for record in lane.passes(1)] == ["lapsed"]


def test_a_removed_agent_lapses_no_more(lane: Lane) -> None:
    lane.sees("anna", "online")
    lane.loses("anna")
    assert lane.passes(10 * LONGEST_MS) == []


# Wrap-up.


def test_an_ended_conversation_takes_room_until_it_is_wrapped_up() -> None:
    lane = Lane()
    lane.rules(wrap_up_ms=60_000)
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    lane.asks("c2")
    (ended,) = lane.ends("c1")
    assert ended.data["wrap_up_until_ms"] == lane.now_ms + 60_000
    assert lane.passes(59_999) == []
    changed, made = lane.passes(1)
    assert (changed.data["what"], changed.data["wrapping"]) == ("wrapped-up", [])
    assert given_to([made]) == [("c2", "anna")]


def test_a_record_says_that_somebody_wraps_up() -> None:
    lane = Lane()
    lane.rules(wrap_up_ms=60_000)
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    lane.ends("c1")
    lane.has("bob", "support")
    lines = {line["agent"]: line for line in lane.asks("c2")[0].data["candidates"]}
    assert (lines["anna"]["passed_over"], lines["anna"]["wrapping"], lines["anna"]["open"]) == ("wrapping-up", 1, 0)


def test_an_agents_own_wrap_up_comes_before_the_policys() -> None:
    lane = Lane()
    lane.rules(wrap_up_ms=60_000, agents={"bob": ConfiguredAgent(teams=("support",), wrap_up_ms=0)})
    lane.asks("c1")
    assert "wrap_up_until_ms" not in lane.ends("c1")[0].data


def test_only_what_ended_is_wrapped_up() -> None:
    """What was taken away, and what was only offered, takes no room afterwards."""
    lane = Lane()
    lane.rules(wrap_up_ms=60_000)
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    lane.takes("c1", "stranger")
    lane.asks("c2", RouteTarget(team="support", accept_ms=30_000))
    assert "wrap_up_until_ms" not in lane.ends("c2")[0].data
    assert given_to(lane.asks("c3")) == [("c3", "anna")]
    assert "wrap_up_until_ms" not in lane.ends("c1")[0].data

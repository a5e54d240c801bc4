"""What happens to conversations that need an owner."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from routing.assignment import FOLLOW_UPS_MAX
from routing.decider import LogRecord
from routing.inputs import (
    AssignmentAccepted,
    AssignmentEnded,
    AssignmentTaken,
    Cause,
    ConfiguredAgent,
    DeadlinePassed,
    Event,
    Origin,
    PoolTarget,
    PresenceStatus,
    RouteName,
    RouteTarget,
)
from tests.workspace_given import MANAGERS, NONE, Lane, dedicated, given_to, requested, types


@pytest.fixture
def lane() -> Lane:
    return Lane()


def only_reason(records: list[LogRecord]) -> Any:
    """The reason of the single record there is, which says that an input was ignored."""
    assert types(records) == ["input.ignored"]
    return records[0].data["reason"]


# Pools and strategies.


def test_round_robin_gives_in_turn_by_id_and_remembers_whose_turn_it_is(lane: Lane) -> None:
    for agent in ("cleo", "anna", "bob"):
        lane.has(agent, "support")
    got = [lane.asks(f"c{n}")[0].data for n in range(4)]
    assert [data["agent"] for data in got] == ["anna", "bob", "cleo", "anna"]
    assert got[1]["turn"] == {"pool": "team/support", "before": "anna", "after": "bob"}
    assert got[1]["candidates"][0] == {"agent": "bob", "open": 0, "max_open": 20, "presence": "online"}
    assert got[1]["candidates"][1]["passed_over"] == "later-turn"


def test_the_turn_survives_members_who_come_and_go(lane: Lane) -> None:
    """Removing the agent whose turn was last does not begin the round anew, nor does who comes in between."""
    for agent in ("anna", "bob", "dora"):
        lane.has(agent, "support")
    lane.asks("c1")
    lane.ends("c1")
    lane.asks("c2")
    lane.ends("c2")
    lane.loses("bob")
    lane.has("cleo", "support")
    assert [given_to(lane.asks(f"d{n}"))[0][1] for n in range(3)] == ["cleo", "dora", "anna"]


def test_one_turn_for_all_routes_to_a_team(lane: Lane) -> None:
    for agent in ("anna", "bob"):
        lane.has(agent, "support")
    lane.asks("c1")
    assert given_to(lane.asks("c2", RouteTarget(team="support", only_online=False))) == [("c2", "bob")]


def test_least_open_gives_to_the_one_with_fewest_and_then_to_who_waited_longest(lane: Lane) -> None:
    for agent in ("anna", "bob"):
        lane.has(agent, "managers")
    assert [given_to(lane.asks(f"c{n}", MANAGERS))[0][1] for n in range(2)] == ["anna", "bob"]
    lane.ends("c1")
    lane.ends("c0")
    last = lane.asks("c2", MANAGERS)[0].data
    assert (last["agent"], last["reason"], last["turn"]) == ("anna", "fewest-open", None)
    assert last["candidates"][1] == {
        "agent": "bob", "open": 0, "max_open": 20, "presence": "online", "passed_over": "served-later",
    }  # fmt: skip


def test_a_workspace_pool_holds_everybody(lane: Lane) -> None:
    lane.has("anna")
    lane.has("bob", "support")
    target = RouteTarget(workspace=True)
    assert [given_to(lane.asks(f"c{n}", target))[0][1] for n in range(3)] == ["anna", "bob", "anna"]


def test_a_record_names_at_most_fifty_candidates_the_chosen_among_them(lane: Lane) -> None:
    """The total is there, and the one who got it even if many before him could not have it."""
    for n in range(80):
        lane.has(f"agent-{n:02}", "support", max_open=0 if n < 70 else 1)
    data = lane.asks("c1")[0].data
    assert (data["agent"], data["candidates_total"], len(data["candidates"])) == ("agent-70", 80, 50)
    assert data["candidates"][0]["passed_over"] == "full"
    assert [line["agent"] for line in data["candidates"] if "passed_over" not in line] == ["agent-70"]


@pytest.mark.parametrize("status", ["away", "offline", "other"])
def test_only_who_is_online_gets_work_unless_the_route_says_otherwise(lane: Lane, status: PresenceStatus) -> None:
    lane.has("anna", "support")
    lane.sees("anna", status)
    assert types(lane.asks("c1")) == ["assignment.queued"]
    assert given_to(lane.asks("c2", RouteTarget(team="support", only_online=False))) == [("c2", "anna")]


# Dedicated agents.


def test_a_dedicated_agent_is_found_by_id_or_else_by_email(lane: Lane) -> None:
    lane.has("anna", email="Anna@example.com")
    assert lane.asks("c1", dedicated("anna"), route="vip")[0].data["strategy"] == "dedicated"
    assert given_to(lane.asks("c2", dedicated("anna@EXAMPLE.com"), route="vip")) == [("c2", "anna")]


def test_an_id_is_preferred_to_an_email(lane: Lane) -> None:
    lane.has("anna", email="bob")
    lane.has("bob")
    assert given_to(lane.asks("c1", dedicated("bob"))) == [("c1", "bob")]


def test_who_waits_for_an_email_is_served_when_an_agent_gets_that_email(lane: Lane) -> None:
    lane.has("anna")
    lane.asks("c1", dedicated("anna@example.com"))
    assert given_to(lane.has("anna", email="anna@example.com")) == [("c1", "anna")]


def test_the_fallback_opens_after_its_time_and_not_before(lane: Lane) -> None:
    lane.has("bob", "vip-desk")
    queued = lane.asks("c1", dedicated("anna", team="vip-desk", after_ms=120_000), route="vip")
    assert queued[0].data["deadlines"] == {"fallback": lane.now_ms + 120_000}
    assert lane.passes(119_999) == []
    opened, made = lane.passes(1)
    assert (opened.type, opened.data["fallback_open"]) == ("assignment.queued", True)
    assert (made.data["agent"], made.data["strategy"], made.data["reason"]) == ("bob", "round-robin", "fallback")
    assert made.data["waited_ms"] == 120_000


def test_the_dedicated_agent_gets_it_if_he_appears_first(lane: Lane) -> None:
    lane.has("anna", max_open=1)
    lane.sees("anna", "offline")
    lane.asks("c1", dedicated("anna", team="vip-desk", after_ms=1_000), route="vip")
    lane.passes(5_000)
    assert given_to(lane.sees("anna", "online")) == [("c1", "anna")]


def test_the_record_of_a_fallback_says_why_the_dedicated_agent_was_passed_over(lane: Lane) -> None:
    lane.has("anna", max_open=0)
    lane.has("bob", "vip-desk")
    lane.asks("c1", dedicated("anna", team="vip-desk", after_ms=1_000))
    candidates = lane.passes(1_000)[-1].data["candidates"]
    assert [(line["agent"], line.get("passed_over")) for line in candidates] == [("anna", "full"), ("bob", None)]


def test_a_fallback_after_no_time_is_open_at_once(lane: Lane) -> None:
    lane.has("bob", "vip-desk")
    assert given_to(lane.asks("c1", dedicated("anna", team="vip-desk", after_ms=0))) == [("c1", "bob")]


# The queue.


def test_vip_before_escalated_before_regular_and_the_oldest_first_inside(lane: Lane) -> None:
    lane.has("anna", "support", max_open=0)
    routes: dict[str, RouteName] = {"r1": "regular", "e1": "escalated", "v1": "vip", "r2": "regular", "v2": "vip"}
    for conversation, route in routes.items():
        lane.asks(conversation, route=route)
    order = [conversation for conversation, _ in given_to(lane.has("anna", "support", max_open=5))]
    assert order == ["v1", "v2", "e1", "r1", "r2"]


@pytest.mark.parametrize("frees", ["ended", "presence", "room", "new agent", "config"])
def test_every_change_that_frees_somebody_serves_who_waits(lane: Lane, frees: str) -> None:
    lane.configures(max_open=1)
    lane.has("anna", "support")
    lane.asks("c1")
    lane.has("bob", "support")
    lane.sees("bob", "offline")
    lane.asks("c2")
    steps = {
        "ended": lambda: lane.ends("c1"),
        "presence": lambda: lane.sees("bob", "online"),
        "room": lambda: lane.has("anna", "support", max_open=2),
        "new agent": lambda: lane.has("cleo", "support"),
        "config": lambda: lane.configures(max_open=2),
    }
    assert [conversation for conversation, _ in given_to(steps[frees]())] == ["c2"]


def test_waited_too_long_goes_to_the_escalation_at_its_place(lane: Lane) -> None:
    lane.has("maya", "managers")
    lane.sees("maya", "offline")
    asked_ms = lane.now_ms
    lane.asks("c1", RouteTarget(team="support", wait_max_ms=60_000), escalation=MANAGERS)
    (queued,) = lane.passes(60_000)
    assert (queued.data["route"], queued.data["route_reason"], queued.data["since_ms"]) == (
        "escalated", "waited", asked_ms,
    )  # fmt: skip
    (_, made) = lane.sees("maya", "online")
    assert (made.data["agent"], made.data["waited_ms"]) == ("maya", 60_000)


def test_waited_too_long_in_the_escalation_is_overdue_once(lane: Lane) -> None:
    lane.asks("c1", RouteTarget(team="managers", wait_max_ms=60_000), route="escalated")
    (queued,) = lane.passes(200_000)
    assert queued.data["overdue"] is True
    assert lane.workspaces.next_due_ms() is None


def test_a_deadline_that_another_record_replaced_does_nothing(lane: Lane) -> None:
    lane.asks("c1", RouteTarget(team="support", wait_max_ms=60_000))
    lane.takes("c1", "anna")
    lane.takes("c1", None)
    event = Event(
        workspace="default",
        contact="contact-of-c1",
        conversation="c1",
        source="",
        time_ms=lane.now_ms,
        cause=Cause(id="deadline/wait/1"),
        body=DeadlinePassed(kind="wait", seq=1),
    )
    assert lane.tell(event) == []


def test_what_an_input_leaves_over_is_drained_at_once_by_deadlines(lane: Lane) -> None:
    """An input causes at most a hundred follow-ups; nobody who asks meanwhile is served first."""
    lane.has("anna", "support", max_open=0)
    for n in range(250):
        lane.asks(f"c{n:03}")
    assert len(given_to(lane.has("anna", "support", max_open=1_000))) == FOLLOW_UPS_MAX
    assert lane.workspaces.next_due_ms() == 0
    assert len(lane.workspaces.due(lane.now_ms, 10)) == 1
    assert given_to(lane.asks("late"))[0] == ("c100", "anna")
    lane.passes(0)
    order = [conversation for conversation, _ in given_to(lane.records)]
    assert order == [*(f"c{n:03}" for n in range(250)), "late"]
    assert lane.workspaces.next_due_ms() is None


# Joined conversations.


def test_a_joined_conversation_gets_the_owner_even_if_he_is_away(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.has("bob", "support")
    lane.asks("c1", contact="ann")
    lane.sees("anna", "away")
    data = lane.asks("c2", contact="ann", join="c1")[0].data
    assert (data["agent"], data["strategy"], data["reason"]) == ("anna", "joined", "joined")


def test_a_conversation_that_joins_one_that_waits_gets_its_owner_right_after_it(lane: Lane) -> None:
    lane.asks("c1", contact="ann")
    lane.asks("other")
    lane.asks("c2", contact="ann", join="c1")
    lane.has("bob", "support", max_open=1)
    assert lane.owner("c1", "ann") == "bob"
    assert given_to(lane.has("bob", "support", max_open=2)) == [("c2", "bob")]


def test_a_joined_one_waits_for_room_with_the_owner_and_goes_its_own_way_when_the_first_ends(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.asks("c1", contact="ann")
    lane.has("bob", "support", max_open=1)
    assert types(lane.asks("c2", contact="ann", join="c1")) == ["assignment.queued"]
    assert given_to(lane.asks("c3")) == [("c3", "bob")]
    assert given_to(lane.ends("c1", contact="ann")) == [("c2", "anna")]


def test_a_joined_one_follows_the_first_to_another_agent_while_it_waits(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.asks("c1", contact="ann")
    lane.asks("c2", contact="ann", join="c1")
    lane.has("bob")
    assert given_to(lane.takes("c1", "bob", contact="ann")) == [("c1", "bob"), ("c2", "bob")]


def test_a_joined_one_that_waited_too_long_for_room_is_escalated_alone(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.has("maya", "managers")
    target = RouteTarget(team="support", wait_max_ms=1_000)
    lane.asks("c1", contact="ann")
    lane.asks("c2", target, contact="ann", join="c1", escalation=MANAGERS)
    assert given_to(lane.passes(1_000)) == [("c2", "maya")]


def test_conversations_that_would_wait_for_each_other_do_not(lane: Lane) -> None:
    """Each names the other: the second is the one that is believed to stand alone."""
    lane.asks("c1", contact="ann")
    lane.asks("c2", contact="ann", join="c1")
    lane.asks("c1", contact="ann", join="c2")
    lane.asks("c1", contact="ann", join="c1")
    lane.has("anna", "support")
    assert (lane.owner("c1", "ann"), lane.owner("c2", "ann")) == ("anna", "anna")


# By hand.


def test_taken_by_hand_may_pass_max_open_and_moves_from_the_present_owner(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.has("bob", max_open=0)
    lane.asks("c1")
    lane.asks("c2")
    moved, served = lane.takes("c1", "bob")
    assert (moved.data["strategy"], moved.data["released"]["agent"]) == ("by-hand", "anna")
    assert (served.subject, served.data["agent"], lane.open("bob")) == ("c2", "anna", 1)


def test_naming_the_present_owner_changes_nothing(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.asks("c1")
    assert only_reason(lane.takes("c1", "anna")) == "present-owner"
    assert lane.owner("c1") == "anna"


def test_released_by_hand_goes_back_to_its_place(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    lane.now_ms += 1_000
    lane.asks("c2")
    released, made = lane.takes("c1", None)
    assert (released.data["to"], released.data["agent"], released.data["reason"]) == ("waiting", "anna", "by-hand")
    assert (made.subject, made.data["waited_ms"]) == ("c1", 0)


def test_taken_before_it_was_routed_and_released_waits_in_the_given_route(lane: Lane) -> None:
    lane.takes("c1", "stranger", fallback=requested(MANAGERS, route="escalated"))
    assert lane.open("stranger") == 1
    (released,) = lane.takes("c1", None, fallback=requested(MANAGERS, route="escalated"))
    assert (released.data["to"], released.data["route"]) == ("waiting", "escalated")


def test_a_stranger_is_counted_but_never_given_anything(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    lane.takes("c1", "stranger")
    assert (lane.open("stranger"), lane.open("anna")) == (1, 0)
    lane.asks("c2")
    assert types(lane.asks("c3")) == ["assignment.queued"]


# Ends, reopenings, refusals, copies.


def test_a_reopened_conversation_goes_on_counting_in_the_routers_run(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.asks("c1")
    ended = lane.ends("c1")[0]
    again = lane.asks("c1", run=2)[0]
    assert (ended.data["to"], ended.data["channel"]) == ("ended", {"id": "c1", "type": "whatsapp"})
    assert (again.data["seq"], again.data["prev"], again.data["run"]) == (3, ended.hash, 2)


def place(log_id: str, partition: int, offset: int, n: int) -> Origin:
    return Origin(log_id=log_id, partition=partition, offset=offset, n=n, run=1)


def test_a_request_from_the_same_place_or_before_it_is_dropped(lane: Lane) -> None:
    """The place in the router's log names a request, wherever its copy stands."""
    lane.has("anna", "support")
    lane.asks("c1", origin=place("log", 3, 10, 1))
    assert lane.asks("c2", origin=place("log", 3, 10, 1)) == []
    assert lane.asks("c2", origin=place("log", 3, 9, 5)) == []
    assert types(lane.asks("c2", origin=place("log", 3, 10, 2))) == ["assignment.made"]
    assert types(lane.asks("c3", origin=place("log", 4, 0, 0))) == ["assignment.made"]
    assert types(lane.asks("c4", origin=place("new", 3, 0, 0))) == ["assignment.made"]


def test_a_copy_of_an_ignored_request_stays_without_effect(lane: Lane) -> None:
    """What changed nothing when it came must not move the conversation when it comes again."""
    lane.has("anna", "support", max_open=1)
    lane.asks("c1")
    echo = lane.request(AssignmentTaken(agent="anna"), "c1")
    lane.tell(echo)
    lane.has("bob", "support")
    lane.loses("anna")
    assert lane.owner("c1") == "bob"
    assert lane.tell(echo) == []
    assert lane.owner("c1") == "bob"


def test_a_refused_conversation_is_not_routed(lane: Lane) -> None:
    (record,) = lane.refuses("c1")
    assert (record.type, record.data["reason"]) == ("assignment.not-routed", "once-per-contact")
    assert only_reason(lane.ends("c1")) == "already-not-routed"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda lane: lane.ends("unknown"), "unknown-conversation"),
        (lambda lane: lane.takes("unknown", None), "unknown-conversation"),
        (lambda lane: lane.ends("ended"), "already-ended"),
        (lambda lane: lane.takes("waits", None), "already-waiting"),
        (lambda lane: lane.asks("owned"), "already-assigned"),
        (lambda lane: lane.refuses("owned"), "already-assigned"),
        (lambda lane: lane.takes("taken", None), "no-route"),
        (lambda lane: lane.sees("nobody", "online"), "unknown-agent"),
        (lambda lane: lane.loses("nobody"), "unknown-agent"),
        (lambda lane: lane.sees("gone", "online"), "removed-agent"),
        (lambda lane: lane.loses("gone"), "removed-agent"),
        (lambda lane: lane.has("anna", max_open=-1), "negative-max-open"),
        (lambda lane: lane.has("anna", time_ms=5), "stale"),
        (lambda lane: lane.sees("anna", "offline", time_ms=5), "stale"),
        (lambda lane: lane.sees("anna", "offline", id="seen"), "duplicate"),
        (lambda lane: lane.tell(lane.agent_event(offer("owned"), "anna")), "no-offer"),
        (lambda lane: lane.sees("", "online"), "no-agent"),
        (lambda lane: lane.tell(lane.agent_event(AssignmentEnded(reason="x"), "anna")), "no-conversation"),
    ],
)
def test_what_has_no_effect_is_recorded_with_the_reason(
    lane: Lane, act: Callable[[Lane], list[LogRecord]], reason: str
) -> None:
    lane.has("gone")
    lane.loses("gone")
    lane.has("anna", "support", max_open=1)
    lane.sees("anna", "online", id="seen")
    lane.asks("ended")
    lane.ends("ended")
    lane.asks("owned")
    lane.asks("waits")
    lane.takes("taken", "stranger")
    before = {name: (lane.owner(name), lane.part(name).status) for name in ("ended", "owned", "waits", "taken")}
    assert only_reason(act(lane)) == reason
    assert before == {name: (lane.owner(name), lane.part(name).status) for name in before}


def offer(conversation: str) -> AssignmentAccepted:
    return AssignmentAccepted(conversation=conversation, contact=f"contact-of-{conversation}", token="t")


# Agents.


def test_a_repeated_heartbeat_makes_no_record(lane: Lane) -> None:
    lane.has("anna")
    assert types(lane.sees("anna", "online")) == ["agent.changed"]
    assert lane.sees("anna", "online") == []


def test_a_clock_that_ran_ahead_does_not_silence_an_agent(lane: Lane) -> None:
    """What is remembered of an input's time never lies in the future."""
    lane.has("anna", "support")
    lane.sees("anna", "offline", time_ms=lane.now_ms + 10**9)
    lane.now_ms += 1_000
    assert types(lane.sees("anna", "online")) == ["agent.changed"]


def test_a_late_copy_of_an_old_presence_revives_nobody(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.sees("anna", "online", id="first")
    lane.now_ms += 1_000
    lane.sees("anna", "offline")
    assert only_reason(lane.sees("anna", "online", id="first", time_ms=lane.now_ms)) == "duplicate"
    assert types(lane.asks("c1")) == ["assignment.queued"]


def test_a_removed_agents_conversations_go_back_to_their_places(lane: Lane) -> None:
    lane.has("anna", "support")
    for conversation in ("c1", "c2"):
        lane.asks(conversation)
        lane.now_ms += 1_000
    lane.has("bob", "support", max_open=0)
    records = lane.loses("anna")
    assert types(records) == ["agent.changed", "assignment.released", "assignment.released"]
    assert [record.data["reason"] for record in records[1:]] == ["agent-removed", "agent-removed"]
    assert [c for c, _ in given_to(lane.has("bob", "support", max_open=5))] == ["c1", "c2"]


def test_a_removed_agent_with_very_much_is_released_of_all_of_it(lane: Lane) -> None:
    lane.has("anna", "support", max_open=300)
    for n in range(250):
        lane.asks(f"c{n}")
    lane.loses("anna")
    lane.passes(0)
    assert lane.open("anna") == 0
    assert all(lane.part(f"c{n}").status == "waiting" for n in range(250))


def test_the_policys_agents_are_one_record_each_and_an_event_overrides_them(lane: Lane) -> None:
    lane.has("anna", "vip-desk")
    records = lane.configures(anna=ConfiguredAgent(teams=("support",)), bob=ConfiguredAgent(teams=("support",)))
    assert types(records) == ["agents.recorded", "agent.changed"]
    assert (records[1].subject, records[1].data["what"]) == ("bob", "configured")
    assert given_to(lane.asks("c1")) == [("c1", "bob")]
    assert lane.configures(anna=ConfiguredAgent(teams=("support",)), bob=ConfiguredAgent(teams=("support",))) == []


def test_an_agent_whom_the_policy_drops_is_removed(lane: Lane) -> None:
    lane.configures(anna=ConfiguredAgent(teams=("support",)))
    lane.asks("c1")
    records = lane.configures()
    assert types(records) == ["agents.recorded", "agent.changed", "assignment.released"]
    assert lane.part("c1").status == "waiting"


def test_max_open_lowered_under_the_present_load_takes_nothing_away(lane: Lane) -> None:
    lane.has("anna", "support", max_open=3)
    for n in range(3):
        lane.asks(f"c{n}")
    assert types(lane.has("anna", "support", max_open=1)) == ["agent.changed"]
    lane.ends("c0")
    assert types(lane.asks("c3")) == ["assignment.queued"]


# The shape of it all.


def test_decide_changes_nothing(lane: Lane) -> None:
    lane.has("anna", "support")
    event = lane.request(requested(), "c1")
    first = lane.workspaces.decide(event, NONE, lane.now_ms)
    assert lane.workspaces.decide(event, NONE, lane.now_ms) == first
    assert lane.workspaces.confirm() == {}


def test_every_subject_has_a_gapless_chain(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.asks("c1")
    lane.ends("unknown")
    lane.ends("c1")
    lane.sees("anna", "away")
    chains: dict[tuple[str, str | None], list[LogRecord]] = {}
    for record in lane.records:
        chains.setdefault((record.contact, record.subject), []).append(record)
    for chain in chains.values():
        assert (chain[0].data["seq"], chain[0].data["prev"]) == (1, None)
        for before, after in pairwise(chain):
            assert (after.data["seq"], after.data["prev"]) == (before.data["seq"] + 1, before.hash)


def test_workspaces_of_a_partition_do_not_see_each_other(lane: Lane) -> None:
    lane.has("anna", "support", max_open=1)
    lane.workspace = "other/one"
    assert types(lane.asks("c1")) == ["assignment.queued"]
    lane.has("bob", "support")
    assert lane.owner("c1") == "bob"
    restored = Lane()
    restored.workspaces.load((key, lane.workspaces.dump(part)) for key, part in lane.workspaces.parts())
    assert dict(restored.workspaces.parts()) == dict(lane.workspaces.parts())
    assert restored.workspaces.state.desk("other/one").agents["bob"].open == 1


def test_a_fallback_to_one_agent_works_like_one_to_a_team(lane: Lane) -> None:
    lane.has("bob")
    target = RouteTarget(team="support", fallback=PoolTarget(agent="bob"), fallback_after_ms=10)
    lane.asks("c1", target)
    (_, made) = lane.passes(10)
    assert (made.data["agent"], made.data["strategy"], made.data["reason"]) == ("bob", "dedicated", "fallback")

"""Who of several gets a conversation: by turn, by load, by waiting, by acquaintance, and by what is asked for."""

from __future__ import annotations

from collections import Counter
from itertools import cycle, islice
from typing import Any

import pytest

from routing.inputs import PoolTarget, RouteName, RouteTarget
from routing.strategies import CROWD_NAMED_MAX
from tests.workspace_given import MANAGERS, SUPPORT, Lane, as_read_back, given_to, types

IDLE = RouteTarget(team="support", strategy="longest-idle")


@pytest.fixture
def lane() -> Lane:
    """A desk by today's rules."""
    lane = Lane()
    lane.rules()
    return lane


def got(lane: Lane, target: RouteTarget, count: int) -> list[str]:
    """Who gets the next conversations."""
    return [given_to(lane.asks(f"t{len(lane.records)}-{n}", target))[0][1] for n in range(count)]


# Least open.


def test_least_open_counts_relative_to_what_an_agent_may_have(lane: Lane) -> None:
    """Two of ten are less than one of two."""
    lane.has("anna", "managers", max_open=10)
    lane.has("bob", "managers", max_open=2)
    assert Counter(got(lane, MANAGERS, 6)) == {"anna": 5, "bob": 1}
    assert lane.asks("next", MANAGERS)[0].data["reason"] == "fewest-open"


def test_by_the_first_rules_least_open_counts_conversations() -> None:
    """A log that an older program has begun goes on by its rules until a newer one has told it otherwise."""
    lane = Lane()
    lane.configures()
    lane.has("anna", "managers", max_open=10)
    lane.has("bob", "managers", max_open=2)
    assert got(lane, MANAGERS, 4) == ["anna", "bob", "anna", "bob"]
    assert types(lane.rules()) == ["agents.recorded"]
    assert got(lane, MANAGERS, 1) == ["anna"]


def test_equal_loads_go_to_who_has_waited_longest_for_work(lane: Lane) -> None:
    """Who ended a conversation last has waited least, whoever got one first."""
    for agent in ("anna", "bob"):
        lane.has(agent, "managers")
    lane.asks("c1", MANAGERS)
    lane.asks("c2", MANAGERS)
    lane.ends("c2")
    lane.ends("c1")
    assert given_to(lane.asks("c3", MANAGERS)) == [("c3", "bob")]


def test_a_weight_of_two_gets_twice_as_much_by_load_and_by_turn(lane: Lane) -> None:
    for team in ("managers", "support"):
        lane.has(f"{team}-anna", team, max_open=300, weight=2)
        lane.has(f"{team}-bob", team, max_open=300)
    assert Counter(got(lane, MANAGERS, 90)) == {"managers-anna": 60, "managers-bob": 30}
    assert got(lane, SUPPORT, 6) == list(islice(cycle(["support-anna", "support-anna", "support-bob"]), 6))


# Longest idle.


def test_longest_idle_goes_to_who_has_waited_longest_for_work(lane: Lane) -> None:
    """Getting one, ending one and coming online begin a new wait."""
    for agent in ("anna", "bob", "cleo"):
        lane.has(agent, "support")
    assert got(lane, IDLE, 3) == ["anna", "bob", "cleo"]
    lane.ends(str(lane.records[-3].subject))
    assert got(lane, IDLE, 1) == ["bob"]
    lane.sees("cleo", "away")
    lane.sees("cleo", "online")
    assert got(lane, IDLE, 3) == ["anna", "bob", "cleo"]


def test_its_record_says_who_has_waited_less_long(lane: Lane) -> None:
    lane.has("anna", "support")
    lane.has("bob", "support")
    lines = {line["agent"]: line.get("passed_over") for line in lane.asks("c1", IDLE)[0].data["candidates"]}
    assert lines == {"anna": None, "bob": "idle-for-less"}


# Round robin.


def test_among_the_always_eligible_round_robin_differs_by_at_most_one(lane: Lane) -> None:
    """Whoever comes, goes and is served by other strategies meanwhile, and over a restart."""
    for agent in ("anna", "bob", "cleo", "dora"):
        lane.has(agent, "support", max_open=1_000)
    counts: Counter[str] = Counter()
    for n in range(60):
        counts[got(lane, SUPPORT, 1)[0]] += 1
        if n % 7 == 0:
            lane.sees("dora", "away" if n % 2 else "online")
        if n % 11 == 0:
            lane.has(f"new-{n}", "support", max_open=1)
        if n == 30:
            again = Lane(records=lane.records, offset_next=lane.offset_next, requests=lane.requests, inputs=lane.inputs)
            for record in lane.records:
                again.workspaces.evolve(as_read_back(record))
            again.workspaces.confirm()
            lane = again
        always = [counts[agent] for agent in ("anna", "bob", "cleo")]
        assert max(always) - min(always) <= 1


# Sticky.


def test_a_contact_comes_back_to_the_agent_who_had_him_last(lane: Lane) -> None:
    target = RouteTarget(team="support", sticky_ms=60_000)
    for agent in ("anna", "bob"):
        lane.has(agent, "support")
    lane.asks("c1", target, contact="ann")
    lane.ends("c1", contact="ann")
    lane.now_ms += 60_000
    data = lane.asks("c2", target, contact="ann")[0].data
    assert (data["agent"], data["strategy"], data["reason"]) == ("anna", "sticky", "had-it-last")
    assert data["turn"] is None
    lane.ends("c2", contact="ann")
    lane.now_ms += 60_001
    assert given_to(lane.asks("c3", target, contact="ann")) == [("c3", "bob")]


@pytest.mark.parametrize("hindered", ["away", "full", "left the team", "removed"])
def test_an_agent_who_cannot_have_it_is_not_waited_for(lane: Lane, hindered: str) -> None:
    target = RouteTarget(team="support", sticky_ms=60_000)
    for agent in ("anna", "bob"):
        lane.has(agent, "support")
    lane.asks("c1", target, contact="ann")
    lane.ends("c1", contact="ann")
    steps = {
        "away": lambda: lane.sees("anna", "away"),
        "full": lambda: lane.has("anna", "support", max_open=0),
        "left the team": lambda: lane.has("anna", "managers"),
        "removed": lambda: lane.loses("anna"),
    }
    steps[hindered]()
    data = lane.asks("c2", target, contact="ann")[0].data
    assert (data["agent"], data["strategy"]) == ("bob", "round-robin")


def test_who_took_it_by_hand_had_it_last(lane: Lane) -> None:
    target = RouteTarget(team="support", sticky_ms=60_000)
    for agent in ("anna", "bob", "cleo"):
        lane.has(agent, "support")
    lane.asks("c1", target, contact="ann")
    lane.takes("c1", "cleo", contact="ann")
    lane.ends("c1", contact="ann")
    assert given_to(lane.asks("c2", target, contact="ann")) == [("c2", "cleo")]


# Skills and languages.


def test_only_who_knows_and_speaks_what_is_asked_for_gets_it(lane: Lane) -> None:
    """Who names no languages is taken to speak all; ``en`` is asked for here."""
    target = RouteTarget(team="support", skills=("tax",), match_language=True)
    lane.has("anna", "support", skills=("law",))
    lane.has("bob", "support", skills=("tax",), languages=("fr",))
    assert types(lane.asks("c1", target)) == ["assignment.queued"]
    assert given_to(lane.has("cleo", "support", skills=("law", "tax"), languages=("EN", "fr"))) == [("c1", "cleo")]
    assert given_to(lane.has("anna", "support", skills=("tax",))) == []
    assert given_to(lane.asks("c2", target)) == [("c2", "anna")]


def test_after_a_time_skills_and_language_do_not_matter_any_more(lane: Lane) -> None:
    target = RouteTarget(team="support", skills=("tax",), relax_after_ms=60_000)
    lane.has("anna", "support")
    lane.asks("c1", target)
    assert lane.passes(59_999) == []
    relaxed, made = lane.passes(1)
    assert (relaxed.data["relaxed"], made.data["agent"]) == (True, "anna")


def test_a_pool_that_asks_for_more_has_a_turn_of_its_own(lane: Lane) -> None:
    """Else those who know more would be skipped by their colleagues' turn."""
    for agent in ("anna", "bob"):
        lane.has(agent, "support", skills=("tax",))
    lane.asks("c1")
    turn = lane.asks("c2", RouteTarget(team="support", skills=("tax",)))[0].data["turn"]
    assert turn == {"pool": "team/support/tax", "before": None, "after": "anna"}


# Ageing.


def test_who_has_waited_long_ranks_as_the_next_class(lane: Lane) -> None:
    lane.has("anna", "support", max_open=0)
    lane.asks("old", RouteTarget(team="support", promote_after_ms=60_000))
    lane.now_ms += 30_000
    routes: dict[str, RouteName] = {"e1": "escalated", "v1": "vip", "r1": "regular"}
    for conversation, route in routes.items():
        lane.asks(conversation, route=route)
    (promoted,) = lane.passes(30_000)
    assert (promoted.subject, promoted.data["rank"], promoted.data["promoted"]) == ("old", 1, True)
    order = [conversation for conversation, _ in given_to(lane.has("anna", "support", max_open=5))]
    assert order == ["v1", "old", "e1", "r1"]


def test_a_promoted_one_keeps_its_rank_when_it_comes_back(lane: Lane) -> None:
    lane.asks("old", RouteTarget(team="support", promote_after_ms=60_000))
    lane.passes(60_000)
    lane.has("anna", "support", max_open=1)
    lane.asks("other", route="escalated")
    released = lane.loses("anna")[1]
    assert (released.subject, released.data["rank"], "promote" in released.data["deadlines"]) == ("old", 1, False)


# Crowds.


def test_the_record_of_a_crowd_names_a_few_and_counts_the_others(lane: Lane) -> None:
    for n in range(150):
        lane.has(f"agent-{n:03}", "support", max_open=0 if n < 40 else 1)
    lane.sees("agent-149", "away")
    data = lane.asks("c1")[0].data
    assert (len(data["candidates"]), data["candidates_total"]) == (CROWD_NAMED_MAX, 150)
    assert data["counts"] == {"free": 109, "away": 1, "full": 40}
    assert [line["agent"] for line in data["candidates"] if "passed_over" not in line] == ["agent-040"]


def test_a_fallback_has_its_own_needs(lane: Lane) -> None:
    target = RouteTarget(
        team="support", skills=("tax",), fallback=PoolTarget(team="support", skills=("law",)), fallback_after_ms=1_000
    )
    lane.has("anna", "support", skills=("law",))
    lane.asks("c1", target)
    assert given_to(lane.passes(1_000)) == [("c1", "anna")]


@pytest.mark.parametrize(("more", "reason"), [({"weight": 0}, "no-weight"), ({"wrap_up_ms": -1}, "negative-wrap-up")])
def test_a_record_that_cannot_be_is_ignored(lane: Lane, more: dict[str, Any], reason: str) -> None:
    (record,) = lane.has("anna", "support", **more)
    assert (record.type, record.data["reason"]) == ("input.ignored", reason)


def test_who_speaks_a_variety_speaks_the_language(lane: Lane) -> None:
    """A contact's ``pt-BR`` is looked up among the workflow's languages and found as ``pt``."""
    target = RouteTarget(team="support", match_language=True)
    lane.has("bob", "support", languages=("fr-CA",))
    lane.has("ana", "support", languages=("pt-BR",))
    assert given_to(lane.asks("c1", target, language="pt")) == [("c1", "ana")]


def test_by_earlier_rules_only_the_language_itself_counts() -> None:
    """... until a newer program has told the log its rules: then he is given who waits."""
    target = RouteTarget(team="support", match_language=True)
    lane = Lane()
    lane.rules(rules=2)
    lane.has("ana", "support", languages=("pt_BR",))
    assert given_to(lane.asks("c1", target, language="pt")) == []
    assert given_to(lane.rules()) == [("c1", "ana")]

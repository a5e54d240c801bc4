"""Out of hours nobody of a team is given anything; who waits is served at the minute when they open."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from events.outputs import Origin, assignment_outputs
from routing.decider import LogRecord
from routing.hours import AHEAD_DAYS, DAY_MS
from routing.inputs import PoolTarget, RouteTarget, Span, TeamHours
from routing.workspaces import Workspaces
from routing.zones import offsets_of
from tests.workspace_given import NONE, SUPPORT, Lane, as_read_back, dedicated, given_to, types

HOUR_MS = 3_600_000
MINUTE_MS = 60_000
ORIGIN = Origin("assignments.log", 0, "log", 1, 1)
NIGHT = PoolTarget(team="night")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def shift(first: float, last: float) -> tuple[Span, ...]:
    return ((int(first * HOUR_MS), int(last * HOUR_MS)),)


def hours(*teams: str, zone: str = "UTC", spans: tuple[Span, ...] = shift(9, 17), **more: Any) -> TeamHours:
    return TeamHours(zone=zone, week=(spans,) * 7, teams=teams, **more)


def open_for(lane: Lane, **rules: TeamHours) -> list[LogRecord]:
    """The policy's hours."""
    return lane.rules(hours=rules, zones={each.zone: offsets_of(each.zone) for each in rules.values()})


@pytest.fixture
def lane() -> Lane:
    """A desk whose support is there from nine to five; it is seven in the morning of a Monday in June."""
    lane = Lane(now_ms=at("2026-06-01T07:00"))
    lane.has("anna", "support")
    lane.has("nina", "night")
    open_for(lane, office=hours("support"))
    return lane


def test_what_comes_out_of_hours_waits_and_is_served_when_they_open(lane: Lane) -> None:
    [queued] = lane.asks("c1")
    assert types([queued]) == ["assignment.queued"]
    assert lane.passes(2 * HOUR_MS - 1) == []
    turned, made = lane.passes(1)
    assert (turned.type, turned.data["open"], turned.data["until_ms"]) == (
        "hours.changed",
        True,
        at("2026-06-01T17:00"),
    )
    assert turned.data["input"]["type"] == "deadline.passed"
    assert (made.type, made.data["agent"], made.data["waited_ms"]) == ("assignment.made", "anna", 2 * HOUR_MS)
    assert made.at_ms == at("2026-06-01T09:00")


def test_nobody_is_served_from_the_minute_on_when_they_close(lane: Lane) -> None:
    lane.passes(10 * HOUR_MS - 1)
    assert given_to(lane.asks("c1")) == [("c1", "anna")]
    assert types(lane.passes(1)) == ["hours.changed"]
    assert types(lane.asks("c2")) == ["assignment.queued"]


def test_an_input_that_comes_before_the_deadline_fires_is_decided_by_the_clock(lane: Lane) -> None:
    """The lane is late: teams open and close first, whatever it decides next."""
    lane.now_ms = at("2026-06-01T09:00")
    assert types(lane.asks("c1")) == ["assignment.queued", "hours.changed", "assignment.made"]
    lane.now_ms = at("2026-06-01T17:00")
    assert types(lane.asks("c2")) == ["assignment.queued", "hours.changed"]
    assert lane.passes(HOUR_MS) == []


def test_the_record_says_who_is_closed_and_until_when(lane: Lane) -> None:
    [queued] = lane.asks("c1")
    assert queued.data["closed"] == {"office": at("2026-06-01T09:00")}
    assert queued.data["opens_ms"] == at("2026-06-01T09:00")
    [output] = assignment_outputs(queued, ORIGIN)
    assert orjson.loads(output.value or b"")["data"]["opens"] == "2026-06-01T09:00:00.000Z"


def test_who_was_given_something_keeps_it(lane: Lane) -> None:
    lane.passes(3 * HOUR_MS)
    lane.asks("c1")
    lane.passes(12 * HOUR_MS)
    assert lane.owner("c1") == "anna"


def test_an_offer_may_still_be_accepted_but_is_not_passed_on(lane: Lane) -> None:
    lane.has("bob", "support")
    lane.now_ms = at("2026-06-01T16:59")
    lane.passes(0)
    target = RouteTarget(team="support", accept_ms=2 * MINUTE_MS)
    lane.asks("c1", target)
    lane.asks("c2", target)
    lane.passes(MINUTE_MS)
    assert given_to(lane.accepts("anna", "c1")) == [("c1", "anna")]
    assert types(lane.passes(MINUTE_MS)) == ["assignment.released"]
    assert lane.part("c2").status == "waiting"


def test_an_agent_whom_the_route_names_is_asked_at_any_hour(lane: Lane) -> None:
    assert given_to(lane.asks("c1", dedicated("anna"))) == [("c1", "anna")]


def test_a_person_may_take_something_at_any_hour(lane: Lane) -> None:
    lane.asks("c1")
    assert given_to(lane.takes("c1", "anna")) == [("c1", "anna")]


def test_the_workspaces_pool_has_hours_only_if_they_are_said_to_hold_for_it(lane: Lane) -> None:
    anybody = RouteTarget(workspace=True)
    assert given_to(lane.asks("c1", anybody)) == [("c1", "anna")]
    open_for(lane, office=hours("support", workspace=True))
    assert types(lane.asks("c2", anybody)) == ["assignment.queued"]


def test_a_fallback_serves_while_the_team_is_closed(lane: Lane) -> None:
    target = RouteTarget(team="support", fallback=NIGHT, fallback_after_ms=MINUTE_MS)
    lane.asks("c1", target)
    _, made = lane.passes(MINUTE_MS)
    assert (made.data["agent"], made.data["reason"]) == ("nina", "fallback")
    assert made.data["closed"] == {"office": at("2026-06-01T09:00")}
    assert "opens_ms" not in made.data


def test_who_had_the_contact_last_is_not_asked_out_of_hours(lane: Lane) -> None:
    target = RouteTarget(team="support", sticky_ms=30 * DAY_MS)
    lane.passes(3 * HOUR_MS)
    lane.asks("c1", target, contact="p")
    lane.passes(8 * HOUR_MS)
    assert types(lane.asks("c2", target, contact="p")) == ["assignment.queued"]


# --- who stands in ---


def test_who_stands_in_gets_it_and_the_record_says_why(lane: Lane) -> None:
    open_for(lane, office=hours("support", outside=NIGHT))
    [made] = lane.asks("c1")
    assert (made.data["agent"], made.data["team"], made.data["reason"]) == ("nina", "night", "outside-hours")
    assert made.data["closed"] == {"office": at("2026-06-01T09:00")}
    lane.passes(2 * HOUR_MS)
    assert given_to(lane.asks("c2")) == [("c2", "anna")]


def test_who_waits_for_who_stands_in_goes_back_to_the_team_when_it_opens(lane: Lane) -> None:
    open_for(lane, office=hours("support", outside=NIGHT))
    lane.sees("nina", "offline")
    lane.asks("c1")
    assert given_to(lane.passes(2 * HOUR_MS)) == [("c1", "anna")]
    lane.sees("nina", "online")
    lane.sees("anna", "offline")
    lane.asks("c2")
    assert given_to(lane.passes(8 * HOUR_MS)) == [("c2", "nina")]


def test_who_stands_in_has_hours_too_and_then_the_next_does(lane: Lane) -> None:
    """Three regions around the clock; where all are closed, it waits for who opens first."""
    for team in ("asia", "america"):
        lane.has(f"{team}-agent", team)
    sun = {
        "office": hours("support", outside=PoolTarget(team="asia")),
        "asia": hours("asia", spans=shift(1, 9), outside=PoolTarget(team="america")),
        "america": hours("america", spans=shift(17, 24), outside=PoolTarget(team="support")),
    }
    open_for(lane, **sun)
    assert given_to(lane.asks("c1")) == [("c1", "asia-agent")]
    lane.passes(10 * HOUR_MS)
    assert given_to(lane.asks("c2")) == [("c2", "america-agent")]
    lane.passes(7 * HOUR_MS + MINUTE_MS)
    [queued] = lane.asks("c3")
    assert queued.data["opens_ms"] == at("2026-06-02T01:00")
    assert given_to(lane.passes(HOUR_MS)) == [("c3", "asia-agent")]


def test_an_agent_may_stand_in(lane: Lane) -> None:
    open_for(lane, office=hours("support", outside=PoolTarget(agent="nina")))
    assert given_to(lane.asks("c1")) == [("c1", "nina")]
    lane.passes(2 * HOUR_MS)
    lane.sees("anna", "offline")
    assert types(lane.asks("c2")) == ["assignment.queued"]


# --- what changes ---


def test_hours_that_the_policy_changes_hold_at_once(lane: Lane) -> None:
    lane.asks("c1")
    records = open_for(lane, office=hours("support", spans=shift(6, 17)))
    assert types(records) == ["agents.recorded", "hours.changed", "assignment.made"]
    open_for(lane)
    assert lane.workspaces.state.desk("default").hours is None
    assert lane.passes(40 * DAY_MS) == []


def test_the_policys_word_repeated_makes_no_record(lane: Lane) -> None:
    assert open_for(lane, office=hours("support")) == []
    records = open_for(lane, office=hours("support"), night=hours("night"))
    assert [record.data.get("hours") for record in records[1:]] == ["night"]


def test_waiting_conversations_learn_of_somebody_new_who_stands_in(lane: Lane) -> None:
    lane.asks("c1")
    assert given_to(open_for(lane, office=hours("support", outside=NIGHT))) == [("c1", "nina")]


def test_hours_that_never_change_are_looked_at_again_once_a_year(lane: Lane) -> None:
    records = open_for(lane, office=hours("support", spans=shift(0, 24)))
    assert records[1].data["open"]
    assert types(lane.passes(AHEAD_DAYS * DAY_MS)) == ["hours.changed"]


def test_on_the_days_when_clocks_change_they_open_by_the_clock() -> None:
    lane = Lane(now_ms=at("2026-03-28T00:00"))
    open_for(lane, office=hours("support", zone="Europe/Berlin", spans=shift(9, 17)))
    times = [record.at_ms for record in lane.passes(2 * DAY_MS)]
    assert times == [at(f"2026-03-{each}") for each in ("28T08:00", "28T16:00", "29T07:00", "29T15:00")]


def test_the_log_replays_without_the_systems_time_zone_data(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was decided by one edition of the data is decided the same with another: the record holds the offsets."""
    open_for(lane, office=hours("support", zone="Europe/Berlin"))
    lane.asks("c1")
    lane.passes(5 * DAY_MS)
    monkeypatch.setattr("routing.zones.ZoneInfo", None)
    again = Workspaces()
    for record in map(as_read_back, lane.records):
        again.evolve(record)
        again.confirm()
    assert dict(again.parts()) == dict(lane.workspaces.parts())
    assert again.next_due_ms() == lane.workspaces.next_due_ms()
    restored = Workspaces()
    restored.load((key, again.dump(part)) for key, part in again.parts())
    assert restored.next_due_ms() == again.next_due_ms()
    [event] = restored.due(lane.now_ms + DAY_MS, 10)
    decision = restored.decide(event, NONE, lane.now_ms + DAY_MS)
    assert decision is not None
    assert decision.type == "hours.changed"


def test_a_workspace_without_hours_has_nothing_of_them_in_its_records() -> None:
    lane = Lane()
    lane.has("anna", "support")
    lane.rules()
    records = lane.asks("c1", SUPPORT) + lane.ends("c1")
    assert all("closed" not in record.data and "opens_ms" not in record.data for record in records)
    assert all("hours" not in record.data.get("config", {}) for record in lane.records)

"""What a workspace looks like: agents, positions, reasons, estimates, by short stories of a desk."""

from __future__ import annotations

from collections import Counter

import pytest

from consumers.desk.estimates import Pace
from consumers.desk.picture import Picture, WaitingView, picture
from events.times import format_time, parse_time
from routing.inputs import AgentsConfigured, PoolTarget, RouteTarget, TeamHours
from routing.workspace_parts import RULES
from tests.desk_given import HOUR_MS, random_desk
from tests.workspace_given import SUPPORT, Lane, dedicated, requested
from tests.workspace_reference_reading import read_parts


def seen(lane: Lane, given: dict[str, int] | None = None, by_agent: dict[str, int] | None = None) -> Picture:
    """The lane's workspace now; ``given``: out of which pool how many in the last hour."""
    pace = Pace(HOUR_MS, Counter(given or {}), Counter(by_agent or {}))
    return picture(
        lane.workspaces.state, "default", as_of_ms=lane.now_ms, last_ms=lane.records[-1].at_ms, pace=pace,
        assigned_ms={record.offset: record.at_ms for record in lane.records},
    )  # fmt: skip


def waiting(lane: Lane, conversation: str, **more: dict[str, int]) -> WaitingView:
    [found] = [each for each in seen(lane, **more).waiting if each.conversation == conversation]
    return found


def test_an_agent_is_told_with_lease_room_and_all_that_is_set():
    lane = Lane()
    lane.rules(presence_ttl_ms=HOUR_MS, wrap_up_ms=HOUR_MS)
    lane.has("anna", "support", max_open=3, weight=2, skills=("tax",), languages=("pt", "en"), name="Anna Berg")
    lane.sees("anna", "online")
    lane.asks("v1")
    lane.asks("v2")
    lane.ends("v2")
    [anna] = seen(lane).agents
    assert (anna.agent, anna.name, anna.teams, anna.presence) == ("anna", "Anna Berg", ["support"], "online")
    assert (anna.open, anna.max_open, anna.wrapping, anna.weight) == (1, 3, 1, 2)
    assert (anna.skills, anna.languages) == (["tax"], ["en", "pt"])
    assert anna.wrapping_until == format_time(lane.now_ms + HOUR_MS)
    assert anna.lease_until == format_time(lane.now_ms + HOUR_MS + HOUR_MS // 4)
    assert not anna.lease_over
    assert anna.assigned_last == format_time(lane.now_ms)
    lane.now_ms += 2 * HOUR_MS
    assert seen(lane).agents[0].lease_over
    lane.passes(0)
    [anna] = seen(lane).agents
    assert (anna.presence, anna.presence_reason, anna.lease_until) == ("offline", "lapsed", None)


def test_the_queue_is_vip_then_escalated_then_regular_and_ageing_counts():
    lane = Lane()
    lane.has("anna", "support", max_open=0)
    ages = RouteTarget(team="support", promote_after_ms=HOUR_MS)
    for conversation, route in (("r1", "regular"), ("e1", "escalated"), ("v1", "vip"), ("r2", "regular")):
        lane.tell(lane.request(requested(ages, route=route), conversation))  # type: ignore[arg-type]
        lane.now_ms += 1_000
    assert [each.conversation for each in seen(lane).waiting] == ["v1", "e1", "r1", "r2"]
    assert [each.position for each in seen(lane).waiting] == [1, 2, 3, 4]
    lane.passes(HOUR_MS - 3_500)
    assert waiting(lane, "r1").ranks_as == "escalated"
    assert waiting(lane, "r1").promoted_at is None
    assert waiting(lane, "r2").promoted_at is not None
    assert [each.conversation for each in seen(lane).waiting] == ["v1", "r1", "e1", "r2"]


def test_it_says_why_nobody_has_it_and_what_time_will_do():
    lane = Lane()
    lane.asks("v0", RouteTarget(team="nobodys"))
    assert waiting(lane, "v0").because == "team nobodys: nobody belongs to it"
    lane.has("anna", "support", max_open=0)
    lane.has("bob", "support")
    lane.sees("bob", "away")
    lane.asks("v1", RouteTarget(team="support", wait_max_ms=HOUR_MS, match_language=True))
    assert waiting(lane, "v1").because == "team support, who speak en: 1 away, 1 full"
    assert waiting(lane, "v1").escalated_at == format_time(lane.now_ms + HOUR_MS)
    lane.asks("v2", dedicated("bob", team="managers", after_ms=60_000))
    assert waiting(lane, "v2").because == "agent bob: away"
    assert waiting(lane, "v2").fallback_at == format_time(lane.now_ms + 60_000)
    lane.asks("v3", dedicated("carla"))
    assert waiting(lane, "v3").because == "agent carla: no such agent"


def test_who_joins_waits_for_the_owner_of_the_other():
    lane = Lane()
    lane.has("anna", "support", max_open=1)
    lane.asks("v1", contact="c")
    lane.asks("v2", join="v1", contact="c")
    assert waiting(lane, "v2").waits_for == ["anna, who has v1"]
    assert waiting(lane, "v2", by_agent={"anna": 4}).estimated_wait_ms == HOUR_MS // 4


def test_the_estimate_is_by_the_place_in_the_line_of_the_pool():
    lane = Lane()
    lane.has("anna", "support", max_open=0)
    lane.has("bob", "managers", max_open=0)
    lane.asks("m1", RouteTarget(team="managers"))
    for number in (1, 2, 3):
        lane.asks(f"v{number}")
    pace = {"team/support": 6, "team/managers": 2}
    assert [waiting(lane, f"v{n}", given=pace).estimated_wait_ms for n in (1, 2, 3)] == [
        HOUR_MS // 6, HOUR_MS // 3, HOUR_MS // 2,
    ]  # fmt: skip
    assert waiting(lane, "m1", given=pace).estimated_wait_ms is None, "two are too few to go by"
    assert waiting(lane, "v1").estimated_wait_ms is None
    lane.sees("anna", "offline")
    assert waiting(lane, "v1", given=pace).estimated_wait_ms is None, "nobody is there"


@pytest.mark.parametrize("presence", ["away", "offline"])
def test_one_agent_who_is_not_there_has_no_pace_however_full_he_is(presence):
    """His conversations wait for him whether he is there or not, so his pool says of him only that he is full."""
    lane = Lane()
    lane.has("anna", "support", max_open=1)
    lane.asks("v1", contact="c")
    lane.asks("v2", join="v1", contact="c")
    lane.sees("anna", presence)
    assert waiting(lane, "v2", by_agent={"anna": 4}).estimated_wait_ms is None
    lane.sees("anna", "online")
    assert waiting(lane, "v2", by_agent={"anna": 4}).estimated_wait_ms == HOUR_MS // 4


def test_of_two_lines_the_shorter_wait_counts():
    lane = Lane()
    lane.has("anna", "support", max_open=0)
    lane.has("bob", "managers", max_open=0)
    both = RouteTarget(team="support", fallback=PoolTarget(team="managers"), fallback_after_ms=0)
    lane.asks("v1", SUPPORT)
    lane.asks("v2", both)
    pace = {"team/support": 6, "team/managers": 4}
    assert waiting(lane, "v2", given=pace).estimated_wait_ms == HOUR_MS // 4
    assert waiting(lane, "v2", given={"team/support": 6}).estimated_wait_ms == HOUR_MS // 3


def test_an_offer_under_way_is_told_with_its_end_and_without_its_token():
    lane = Lane()
    lane.has("anna", "support")
    lane.asks("v1", RouteTarget(team="support", accept_ms=30_000))
    [offer] = seen(lane).offers
    assert (offer.conversation, offer.agent, offer.until) == ("v1", "anna", format_time(lane.now_ms + 30_000))
    assert "token" not in offer.__struct_fields__
    assert seen(lane).waiting == []
    assert seen(lane).agents[0].open == 1


@pytest.mark.parametrize("seed", range(10))
def test_after_any_history_it_shows_what_a_look_at_all_parts_says(seed):
    lane = random_desk(seed)
    truth = read_parts(lane.workspaces)
    found = seen(lane)
    for agent in found.agents:
        assert agent.open == truth.load(agent.agent)
    waits = {(each.contact, each.conversation) for each in found.waiting}
    offered = {(each.contact, each.conversation) for each in found.offers}
    assert waits == {which for which in truth.waiting() if truth.talks[which].agent is None}
    order = [truth.talks[each.contact, each.conversation].place for each in found.waiting]
    keys = [place.key() for place in order if place is not None]
    assert keys == sorted(keys)
    parts = [part for _, part in lane.workspaces.parts() if getattr(part, "status", None) == "offered"]
    assert len(offered) == len(parts)


@pytest.mark.parametrize(
    ("week", "opens"),
    [(((),) * 7, ""), ((((9 * HOUR_MS, 17 * HOUR_MS),),) * 7, ", opens 2026-11-22 09:00 UTC")],
)
def test_a_team_out_of_hours_is_said_to_be_and_when_it_opens(week, opens):
    lane = Lane()
    lane.now_ms = parse_time("2026-11-21T22:26:40Z")
    lane.has("anna", "support")
    closed = TeamHours(teams=("support",), zone="UTC", week=week)
    body = AgentsConfigured(max_open=20, rules=RULES, hours={"office": closed}, zones={"UTC": ((0, 0),)})
    lane.tell(lane.agent_event(body, None))
    lane.asks("v1")
    found = waiting(lane, "v1", given={"team/support": 6})
    assert (found.because, found.estimated_wait_ms) == (f"team support: out of hours{opens}", None)

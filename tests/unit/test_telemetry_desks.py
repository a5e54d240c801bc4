"""Who waits for an owner, how long, and who is there: counted from the lanes' state, bounded, in small steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumers.telemetry import desks
from consumers.telemetry.desks import OTHERS, DeskFigures, desk_text, read_desks
from consumers.telemetry.views import LaneFigures
from routing.contacts import Contacts
from routing.workspace_index import Desk
from routing.workspace_parts import AgentPart, ConversationPart, parse_key
from routing.workspaces import Workspaces
from tests.workspace_given import MANAGERS, SUPPORT, Lane, dedicated

MINUTE_MS = 60_000


class FakeLane:
    """A lane as telemetry sees it, over a state."""

    def __init__(self, state: object, *, is_ready: bool = True) -> None:
        self.counts: Any = {}
        self.is_ready = is_ready
        self.state = state

    def figures(self) -> LaneFigures:
        raise AssertionError("nobody asks")


class FakeRole:
    def __init__(self, *lanes: FakeLane) -> None:
        self.name = "assigner"
        self.is_owned, self.is_standby = True, False
        self.error: str | None = None
        self.lanes: Sequence[Any] = lanes
        self.reads: dict[int, bool] = {}

    def is_ready(self) -> bool:
        return True


def busy_desk() -> Lane:
    """Two agents have all that they can, a third is away; others wait: by route, offered none, one that joins."""
    lane = Lane()
    lane.has("anna", "support", max_open=1)
    lane.has("bo", "support", max_open=1)
    lane.has("maya", "managers", max_open=1)
    lane.has("cy", "support", max_open=9)
    lane.sees("cy", "away")
    for name in ("a", "b", "c", "d"):
        lane.asks(name, contact=f"of-{name}")
        lane.now_ms += MINUTE_MS
    lane.asks("v", dedicated("nobody"), route="vip")
    lane.asks("e", MANAGERS, route="escalated")
    lane.asks("f", MANAGERS, route="escalated")
    lane.asks("c2", SUPPORT, join="c", contact="of-c")
    lane.now_ms += MINUTE_MS
    lane.has("dora", "elsewhere", max_open=3)
    lane.ends("gone")
    return lane


def recounted(state: Workspaces) -> dict[str, DeskFigures]:
    """The oracle: all parts looked at, one by one."""
    found: dict[str, DeskFigures] = {}
    for key, part in state.state.parts.values.items():
        workspace, _, ids = parse_key(key)
        figures = found.setdefault(workspace, DeskFigures())
        if isinstance(part, ConversationPart) and part.status == "waiting" and part.routing is not None:
            route = part.routing.route
            figures.waiting[route] += 1
            figures.queued_ms[route] = min(figures.queued_ms.get(route, 1 << 62), part.routing.queued_ms)
        elif isinstance(part, AgentPart) and part.record is not None and part.presence in {None, "online"}:
            figures.online += 1
            figures.with_room += state.state.desk(workspace).agents[ids[0]].has_room()
    return found


async def test_waiting_conversations_and_agents_are_counted_by_workspace():
    lane = busy_desk()
    figures = (await read_desks([FakeRole(FakeLane(lane.workspaces))]))["default"]
    assert figures.waiting == {"vip": 1, "escalated": 1, "regular": 3}, "c and d, and c2, which waits with c"
    ages_ms = {route: lane.now_ms - queued_ms for route, queued_ms in figures.queued_ms.items()}
    assert ages_ms == {"vip": MINUTE_MS, "escalated": MINUTE_MS, "regular": 3 * MINUTE_MS}
    assert (figures.online, figures.with_room) == (4, 1), "cy is away; of the others only dora has room"
    assert await read_desks([FakeRole(FakeLane(lane.workspaces))]) == recounted(lane.workspaces)


async def test_a_wait_begins_anew_when_an_owner_gave_the_conversation_back():
    lane = busy_desk()
    for name in ("c2", "c", "d"):
        lane.ends(name, contact=f"of-{name[0]}")
    lane.sees("anna", "away")
    lane.takes("a", None, contact="of-a")
    assert lane.owner("a", contact="of-a") is None
    found = await read_desks([FakeRole(FakeLane(lane.workspaces))])
    assert (found["default"].waiting["regular"], found["default"].queued_ms["regular"]) == (1, lane.now_ms)
    assert found == recounted(lane.workspaces)


async def test_conversations_that_are_left_out_are_found(monkeypatch: pytest.MonkeyPatch):
    """The negative control: an index that forgets those that wait with another."""
    lane = busy_desk()
    whole = Desk.waiting
    monkeypatch.setattr(Desk, "waiting", lambda desk: [one for one in whole(desk) if one.conversation != "c2"])
    assert await read_desks([FakeRole(FakeLane(lane.workspaces))]) != recounted(lane.workspaces)


async def test_only_lanes_of_workspaces_that_are_ready_are_read():
    lanes = [FakeLane(busy_desk().workspaces, is_ready=False), FakeLane(Contacts())]
    assert await read_desks([FakeRole(*lanes)]) == {}


async def test_more_workspaces_than_that_are_told_together(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(desks, "WORKSPACES_MAX", 2)
    workspaces = Workspaces()
    lanes = [Lane(workspace=name, workspaces=workspaces) for name in ("d", "c", "b", "a")]
    for number, lane in enumerate(lanes):
        lane.has("anna", "managers", max_open=2)
        lane.now_ms += number
        lane.asks("x")
    found = await read_desks([FakeRole(FakeLane(workspaces))])
    assert list(found) == ["a", "b", OTHERS]
    assert found[OTHERS].waiting == {"vip": 0, "escalated": 0, "regular": 2}
    assert found[OTHERS].queued_ms == {"regular": lanes[0].now_ms}, "of the oldest"
    assert (found[OTHERS].online, found[OTHERS].with_room) == (2, 2)


async def test_the_loop_turns_while_a_long_queue_is_counted(monkeypatch: pytest.MonkeyPatch):
    """And what changes meanwhile disturbs nothing."""
    monkeypatch.setattr(desks, "STEP", 1)
    lane = busy_desk()
    reading = asyncio.create_task(read_desks([FakeRole(FakeLane(lane.workspaces))]))
    await asyncio.sleep(0)  # it has begun: five wait
    lane.ends("c2", contact="of-c")
    turns = 0
    while not reading.done():
        turns += 1
        lane.asks(f"new-{turns}")
        await asyncio.sleep(0)
    assert turns > 5
    assert sum((await reading)["default"].waiting.values()) == 4, "neither those that came nor the one that ended"


async def test_each_workspace_is_eight_series_and_none_waits_is_told_as_zero():
    figures = DeskFigures(online=3, with_room=2)
    figures.waiting["vip"], figures.queued_ms["vip"] = 5, 1_000
    text = (await desk_text({"acme": figures}, 61_500)).decode()
    samples = [
        (sample.name.removeprefix("vip_router_"), sample.labels.get("route"), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels["workspace"] == "acme"
    ]
    assert sorted(samples, key=str) == [
        ("agents_online", None, 3),
        ("agents_with_room", None, 2),
        ("conversations_waiting", "escalated", 0),
        ("conversations_waiting", "regular", 0),
        ("conversations_waiting", "vip", 5),
        ("oldest_wait_seconds", "escalated", 0),
        ("oldest_wait_seconds", "regular", 0),
        ("oldest_wait_seconds", "vip", 60.5),
    ]
    assert len(samples) == 8

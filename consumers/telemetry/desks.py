"""What the assigner's lanes know of each workspace: who waits for an owner, how long, and who is there to take them.

Counted when it is asked for, from the state that the lanes decide over, which nothing here changes. It is done in small
steps between which the loop turns, so that a long queue holds nobody up. Each workspace is eight series; there are at
most ``WORKSPACES_MAX`` of them, the others are told together as ``OTHERS``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from consumers.telemetry.views import LaneView, RoleView
from routing.inputs import RouteName
from routing.workspace_index import Desk
from routing.workspace_parts import RANKS, ConversationId
from routing.workspaces import Workspaces

WORKSPACES_MAX: Final = 1_000
OTHERS: Final = "(others)"  #: a workspace that is called so is told with them
STEP: Final = 500  #: conversations or agents looked at before the loop turns

ItemT = TypeVar("ItemT")


@dataclass(slots=True)
class DeskFigures:
    """How a workspace stands. Conversations by route; times are Unix milliseconds."""

    waiting: dict[RouteName, int] = field(default_factory=lambda: dict.fromkeys(RANKS, 0))
    queued_ms: dict[RouteName, int] = field(default_factory=dict)  #: since when the one waits that waits longest
    online: int = 0  #: agents
    with_room: int = 0  #: of those, who can have one more

    def add(self, other: DeskFigures) -> None:
        """Take those of another workspace in."""
        for route, count in other.waiting.items():
            self.waiting[route] += count
        for route, queued_ms in other.queued_ms.items():
            self.queued_ms[route] = min(queued_ms, self.queued_ms.get(route, queued_ms))
        self.online += other.online
        self.with_room += other.with_room


async def read_desks(roles: Sequence[RoleView]) -> dict[str, DeskFigures]:
    """Every workspace of the lanes that are ready, by name; the first ``WORKSPACES_MAX``, and ``OTHERS``."""
    desks = {desk.workspace: desk for role in roles for lane in role.lanes for desk in _desks_of(lane)}
    found: dict[str, DeskFigures] = {}
    for number, name in enumerate(sorted(desks)):
        figures = await _figures(desks[name])
        if number < WORKSPACES_MAX:
            found[name] = figures
        else:
            found.setdefault(OTHERS, DeskFigures()).add(figures)
    return found


def _desks_of(lane: LaneView) -> Sequence[Desk]:
    state = lane.state
    return list(state.state.desks.values()) if lane.is_ready and isinstance(state, Workspaces) else ()


async def _figures(desk: Desk) -> DeskFigures:
    figures = DeskFigures()
    for some in _steps(desk.waiting()):
        for conversation in some:
            _count_waiting(desk, conversation, figures)
        await asyncio.sleep(0)
    for agents in _steps(list(desk.agents.values())):
        for agent in agents:
            if agent.record is not None and agent.presence == "online":
                figures.online += 1
                figures.with_room += agent.has_room()
        await asyncio.sleep(0)
    return figures


def _count_waiting(desk: Desk, conversation: ConversationId, figures: DeskFigures) -> None:
    part = desk.conversation(conversation)  # as it is now: the loop has turned since it was found to wait
    if part.status == "waiting" and part.routing is not None:
        route, queued_ms = part.routing.route, part.routing.queued_ms
        figures.waiting[route] += 1
        figures.queued_ms[route] = min(queued_ms, figures.queued_ms.get(route, queued_ms))


def _steps(items: Sequence[ItemT]) -> Iterator[list[ItemT]]:
    rest = iter(items)
    while some := list(islice(rest, STEP)):
        yield some


class Desks(Collector):
    """The figures as Prometheus has them, ages as of ``now_ms``."""

    def __init__(self, desks: Mapping[str, DeskFigures], now_ms: int) -> None:
        self._desks = desks
        self._now_ms = now_ms

    def collect(self) -> Iterator[Metric]:
        """Every metric family."""
        waiting = GaugeMetricFamily(
            "vip_router_conversations_waiting", "Conversations that wait for an owner.", labels=["workspace", "route"]
        )
        oldest = GaugeMetricFamily(
            "vip_router_oldest_wait_seconds",
            "How long the conversation has waited for an owner that waits longest; 0: none waits.",
            labels=["workspace", "route"],
        )
        online = GaugeMetricFamily("vip_router_agents_online", "Agents who are online.", labels=["workspace"])
        with_room = GaugeMetricFamily(
            "vip_router_agents_with_room", "Agents who are online and can have one more.", labels=["workspace"]
        )
        for name, figures in self._desks.items():
            for route, count in figures.waiting.items():
                waiting.add_metric((name, route), count)
                queued_ms = figures.queued_ms.get(route, self._now_ms)
                oldest.add_metric((name, route), max(self._now_ms - queued_ms, 0) / 1_000)
            online.add_metric([name], figures.online)
            with_room.add_metric([name], figures.with_room)
        yield from (waiting, oldest, online, with_room)


async def desk_text(desks: Mapping[str, DeskFigures], now_ms: int) -> bytes:
    """The figures in Prometheus' text format; made beside the loop, which a thousand workspaces would hold up."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Desks(desks, now_ms))
    return await asyncio.to_thread(generate_latest, registry)

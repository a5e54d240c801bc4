"""Lets a month happen to a desk: one event after the other, each told to whoever chooses.

``LeanDesk`` chooses with the router's own pools, turns and queues (``routing/pools.py``, ``strategies.py``,
``queues.py``), without records, state and explanations: a month of them would take an hour. That it gives every
conversation to the same agent as the whole decider is what ``month_check.py`` finds out.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol, TypeAlias

from routing.desk_agents import Agent, Line
from routing.inputs import ConfiguredAgent, RouteTarget
from routing.pools import Pools
from routing.queues import DeadlineQueue, Due
from routing.strategies import Pool, pool_key
from routing.workspace_parts import RANKS, ConversationId, TurnPart
from tests.bench.month_model import ROUTES, Month, Shown, StrategyName, targets, teams_of

WORKSPACE: Final = "default"
NOBODY: Final = ""
_NO_LINE: Final[Line] = {}
_SHOWN, _ENDS, _COMES = range(3)  #: in the order in which they happen in the same millisecond

Given: TypeAlias = tuple[int, str]  #: a conversation, and the agent who gets it


class Desk(Protocol):
    """Whoever chooses. Each call returns what was given because of it, in order."""

    def shows(self, shown: Shown) -> Sequence[Given]:
        """An agent's presence changes."""

    def asks(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """A conversation needs an owner."""

    def ends(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """A conversation that has an owner is over."""

    def next_due_ms(self) -> int | None:
        """When the earliest deadline passes; None: there is none."""

    def passes(self, now_ms: int) -> Sequence[Given]:
        """The deadlines up to now fire."""


@dataclass(slots=True)
class Happened:
    """Of each conversation: who had it (``NOBODY``: it did not come), since when, and until when."""

    owners: list[str]
    given_ms: array[int]
    ended_ms: array[int]


def simulate(month: Month, desk: Desk, conversations: range | None = None) -> Happened:
    """Let these conversations come (None: all of them), and every one of them end."""
    numbers = range(len(month.arrives_ms)) if conversations is None else conversations
    return _Loop(month, desk, numbers).run()


class _Loop:
    """The events that are still to come, the earliest first."""

    def __init__(self, month: Month, desk: Desk, conversations: range) -> None:
        self._month = month
        self._desk = desk
        self._numbers = conversations
        self._heap: list[tuple[int, int, int]] = []
        self._open = dict.fromkeys(month.paces, 0)
        count = len(month.arrives_ms)
        self._happened = Happened([NOBODY] * count, array("q", bytes(8 * count)), array("q", bytes(8 * count)))

    def run(self) -> Happened:
        """Until the last of the conversations has ended."""
        self._comes_at(0)
        self._shows_at(0)
        heap, desk, month, happened, open_ = self._heap, self._desk, self._month, self._happened, self._open
        left = len(self._numbers)
        while left:
            due_ms = desk.next_due_ms()
            if due_ms is not None and due_ms <= heap[0][0]:
                self._give(desk.passes(due_ms), due_ms)
                continue
            now_ms, kind, index = heappop(heap)
            if kind == _ENDS:
                left -= 1
                open_[happened.owners[index]] -= 1
                happened.ended_ms[index] = now_ms
                self._give(desk.ends(index, now_ms), now_ms)
            elif kind == _COMES:
                self._comes_at(index + 1)
                self._give(desk.asks(self._numbers[index], now_ms), now_ms)
            else:
                self._shows_at(index + 1)
                self._give(desk.shows(month.shown[index]), now_ms)
        return happened

    def _comes_at(self, index: int) -> None:
        if index < len(self._numbers):
            heappush(self._heap, (self._month.arrives_ms[self._numbers[index]], _COMES, index))

    def _shows_at(self, index: int) -> None:
        if index < len(self._month.shown):
            heappush(self._heap, (self._month.shown[index].at_ms, _SHOWN, index))

    def _give(self, given: Sequence[Given], now_ms: int) -> None:
        """Agents begin with what they were given; the more they have, the longer it takes."""
        month, happened, open_ = self._month, self._happened, self._open
        for conversation, agent in given:
            happened.owners[conversation] = agent
            happened.given_ms[conversation] = now_ms
            factor = month.paces[agent] * (1 + month.setting.crowding * open_[agent])
            open_[agent] += 1
            heappush(self._heap, (now_ms + int(month.work_ms[conversation] * factor), _ENDS, conversation))


class _Quiet(Agent):
    """An agent of whom no record tells anything: making a line of him at each change took a fifth of the time."""

    __slots__ = ()

    def as_candidate(self, _passed_over: str | None) -> Line:
        return _NO_LINE


class _Wait(NamedTuple):
    """A conversation that waits: under which id its pools know it, and which pools these are."""

    conversation: ConversationId
    pools: tuple[Pool, ...]


class _Route(NamedTuple):
    """A route of the desk, resolved to pools."""

    rank: int
    pool: Pool
    fallback: Pool | None
    fallback_after_ms: int
    sticky_ms: int | None


class LeanDesk:
    """The router's data structures, told what a decider would tell them, and nothing else."""

    def __init__(self, month: Month, strategy: StrategyName) -> None:
        self._month = month
        self._agents: dict[str, Agent] = {}
        self._pools = Pools(self._agents, self._agents.__getitem__)
        self._deadlines = DeadlineQueue()
        self._offset = 0  # what a log's offset is to the decider: rises with everything that happens
        self._waits: dict[int, _Wait] = {}
        self._turns: dict[str, TurnPart] = {}
        self._had_last: dict[int, tuple[str, int]] = {}
        self._owners: dict[int, str] = {}
        for agent in month.paces:
            self._join(agent)
        self._in_turn = strategy == "round-robin"
        resolved = targets(strategy)
        self._routes = [self._route(resolved[name], RANKS[name]) for name in ROUTES]

    def _join(self, id: str) -> None:
        agent = self._agents[id] = _Quiet(id)
        agent.record = ConfiguredAgent(teams=teams_of(id))
        agent.max_open = self._month.setting.max_open
        agent.idle_since = self._happens()
        self._pools.enrol(agent, None)
        self._tell(agent)

    def _route(self, target: RouteTarget, rank: int) -> _Route:
        fallback = None if target.fallback is None else self._pools.of(pool_key(target.fallback, None))
        after_ms = target.fallback_after_ms or 0
        return _Route(rank, self._pools.of(pool_key(target, None)), fallback, after_ms, target.sticky_ms)

    def _happens(self) -> int:
        self._offset += 1
        return self._offset

    def _tell(self, agent: Agent) -> None:
        agent.changed(by_room=True)
        self._pools.update(agent)

    def shows(self, shown: Shown) -> Sequence[Given]:
        """See ``Desk``."""
        agent, offset = self._agents[shown.agent], self._happens()
        if shown.status == "online":
            agent.idle_since = offset
        agent.presence = shown.status
        self._tell(agent)
        return self._drain(shown.at_ms)

    def asks(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        route = self._routes[self._month.routes[conversation]]
        agent = self._choose(conversation, route, (route.pool,), now_ms)
        if agent is not None:
            return (self._give(conversation, agent, route, now_ms),)
        self._happens()
        name = ConversationId(str(self._month.contacts[conversation]), str(conversation))
        self._wait(conversation, _Wait(name, (route.pool,)), ())
        if route.fallback is not None:
            due = Due(now_ms + route.fallback_after_ms, WORKSPACE, name, "fallback", 0)
            self._deadlines.arm(WORKSPACE, name, (due,))
        return ()

    def _wait(self, conversation: int, wait: _Wait, before: tuple[Pool, ...]) -> None:
        rank = self._routes[self._month.routes[conversation]].rank
        place = (rank, self._month.arrives_ms[conversation], conversation)
        self._waits[conversation] = wait
        self._pools.move(wait.conversation, place, before, wait.pools)

    def ends(self, conversation: int, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        agent = self._agents[self._owners.pop(conversation)]
        agent.idle_since = self._happens()
        agent.open -= 1
        if self._routes[self._month.routes[conversation]].sticky_ms is not None:
            self._had_last[self._month.contacts[conversation]] = (agent.id, now_ms)
        self._tell(agent)
        return self._drain(now_ms)

    def next_due_ms(self) -> int | None:
        """See ``Desk``."""
        return self._deadlines.next_due_ms()

    def passes(self, now_ms: int) -> Sequence[Given]:
        """See ``Desk``."""
        given: list[Given] = []
        for due in self._deadlines.passed(now_ms, 1):
            self._happens()
            conversation = int(due.conversation.conversation)
            route, wait = self._routes[self._month.routes[conversation]], self._waits[conversation]
            assert route.fallback is not None
            self._deadlines.arm(WORKSPACE, due.conversation, ())
            self._wait(conversation, _Wait(due.conversation, (route.pool, route.fallback)), wait.pools)
            given += self._drain(now_ms)
        return given

    def _drain(self, now_ms: int) -> Sequence[Given]:
        """Serve those who wait as long as somebody is free for them: the most urgent, then the oldest."""
        if not self._pools.ready:
            return ()
        given: list[Given] = []
        while pools := self._pools.ready_pools():
            _, name = min(head for pool in pools if (head := pool.waiting.head()) is not None)
            conversation = int(name.conversation)
            route, wait = self._routes[self._month.routes[conversation]], self._waits.pop(conversation)
            agent = self._choose(conversation, route, wait.pools, now_ms)
            assert agent is not None, f"somebody is free for {name}, but nobody can have it"
            self._pools.move(name, (0, 0, 0), wait.pools, ())
            self._deadlines.arm(WORKSPACE, name, ())
            given.append(self._give(conversation, agent, route, now_ms))
        return given

    def _choose(self, conversation: int, route: _Route, pools: tuple[Pool, ...], now_ms: int) -> str | None:
        """As ``routing/choosing.py``: who had the contact last, else whom the pools serve next."""
        if route.sticky_ms is not None:
            had = self._had_last.get(self._month.contacts[conversation])
            if had is not None and now_ms - had[1] <= route.sticky_ms and any(pool.has_free(had[0]) for pool in pools):
                return had[0]
        for pool in pools:
            agent = pool.next_agent(self._turns.get(pool.turn_name))
            if agent is not None:
                if self._in_turn:
                    self._turns[pool.turn_name] = TurnPart(agent=agent)
                return agent
        return None

    def _give(self, conversation: int, id: str, route: _Route, now_ms: int) -> Given:
        agent = self._agents[id]
        agent.assigned_last = agent.idle_since = self._happens()
        agent.open += 1
        self._owners[conversation] = id
        if route.sticky_ms is not None:
            self._had_last[self._month.contacts[conversation]] = (id, now_ms)
        self._tell(agent)
        return (conversation, id)

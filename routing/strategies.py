"""Who of a pool gets the next conversation, and why the others do not.

A ``Pool`` holds the agents that a target may choose from, those who are free in the order that its strategy serves
them, and the conversations that wait for one of them. It is an index: ``workspace_index.py`` keeps it current.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from routing.inputs import ConfiguredAgent, PoolTarget, PresenceStatus
from routing.queues import WaitingQueue

CANDIDATES_MAX: Final = 50  #: candidates that a record names

PoolKind: TypeAlias = Literal["agent", "owner", "team", "workspace"]
Strategy: TypeAlias = Literal["round-robin", "least-open", "dedicated", "joined", "by-hand"]
Line: TypeAlias = dict[str, Any]  #: one of a record's ``candidates``; shared by records: never to be changed


class PoolKey(NamedTuple):
    """What a pool is made of. ``id``: an agent's id or e-mail, the owner's id, the team, or nothing."""

    kind: PoolKind
    id: str
    strategy: Strategy
    only_online: bool

    @property
    def turn_name(self) -> str:
        """Names the pool whose turn it is: all targets on one team share one turn."""
        return f"team/{self.id}" if self.kind == "team" else "workspace"


@lru_cache(maxsize=4_096)  # targets are those of the policies' routes
def pool_key(target: PoolTarget) -> PoolKey:
    """The pool that a target means."""
    if target.agent is not None:
        return PoolKey("agent", target.agent, "dedicated", target.only_online)
    if target.team is not None:
        return PoolKey("team", target.team, target.strategy, target.only_online)
    return PoolKey("workspace", "", target.strategy, target.only_online)


def owner_key(agent: str) -> PoolKey:
    """The pool of joined conversations that wait for room with the owner of the first."""
    return PoolKey("owner", agent, "joined", only_online=False)


class Agent:
    """An agent as of now: what his part says, and how many conversations he owns."""

    __slots__ = ("_lines", "assigned_last", "id", "max_open", "open", "pools", "presence", "record", "releasing")

    def __init__(self, agent: str) -> None:
        self.id = agent
        self.record: ConfiguredAgent | None = None  #: None: not one of ours, never a candidate
        self.presence: PresenceStatus = "online"
        self.max_open = 0
        self.open = 0
        self.assigned_last = -1
        self.releasing = False
        self.pools: list[Pool] = []
        self._lines: dict[str | None, Line] = {}

    def hindrance(self, *, only_online: bool) -> str | None:
        """Why he cannot have one more: his presence, or "full"; None: he can."""
        if only_online and self.presence != "online":
            return self.presence
        return "full" if self.open >= self.max_open else None

    def changed(self) -> None:
        """Forget the lines that no longer hold."""
        self._lines.clear()

    def as_candidate(self, passed_over: str | None) -> Line:
        """His line in a record's ``candidates``, the same until he changes."""
        line = self._lines.get(passed_over)
        if line is None:
            line = {"agent": self.id, "open": self.open, "max_open": self.max_open, "presence": self.presence}
            if passed_over is not None:
                line["passed_over"] = passed_over
            self._lines[passed_over] = line
        return line


class Chosen(Struct, frozen=True, kw_only=True):
    """An agent who gets a conversation, with the reasons that the record gives."""

    agent: str
    strategy: Strategy
    reason: str
    team: str | None = None
    candidates: list[Line] = []
    candidates_total: int = 0
    turn: dict[str, Any] | None = None


class _Free(NamedTuple):
    """Somebody free in a least-open pool. The first three order them: whom least-open serves first."""

    open: int
    assigned_last: int
    agent: str
    as_few: Line  #: what a record says of him if who gets it has as many
    more: Line  #: ... and if who gets it has fewer


_OPEN: Final = itemgetter(0)  # of _Free; the quickest way to one field of many
_AS_FEW: Final = itemgetter(3)
_MORE: Final = itemgetter(4)


class Pool:
    """The agents of one target and who waits for them. ``agents`` is the workspace's, shared by all its pools.

    What a record says of each agent is kept beside him, so that explaining a choice costs no look at every agent.
    """

    __slots__ = ("_agents", "_by_load", "_lines", "_load_of", "free", "key", "members", "turn_name", "waiting")

    def __init__(self, key: PoolKey, agents: Mapping[str, Agent]) -> None:
        self.key = key
        self.turn_name = key.turn_name
        self._agents = agents
        self.members: list[str] = []  #: ids in order
        self._lines: list[Line] = []  #: of each member, if he does not get it; of free ones in round robin only
        self.free: list[str] = []  #: those members who can have one more
        self._load_of: dict[str, _Free | None] = {}  #: of each who is free; None unless least-open
        self._by_load: list[_Free] = []  #: the same in order
        self.waiting = WaitingQueue()

    @property
    def ready(self) -> bool:
        """Somebody waits, and somebody could have him."""
        return bool(self.free) and len(self.waiting) > 0

    def enter(self, agent: Agent) -> None:
        """Make the agent a member."""
        index = bisect_left(self.members, agent.id)
        self.members.insert(index, agent.id)
        self._lines.insert(index, {})
        self.update(agent)

    def leave(self, agent: Agent) -> None:
        """End the agent's membership."""
        index = bisect_left(self.members, agent.id)
        del self.members[index], self._lines[index]
        self._drop(agent.id)

    def update(self, agent: Agent) -> None:
        """Take note of the agent's presence, room and load."""
        hindrance = agent.hindrance(only_online=self.key.only_online)
        self._lines[bisect_left(self.members, agent.id)] = agent.as_candidate(hindrance or "later-turn")
        if hindrance is not None:
            self._drop(agent.id)
            return
        if agent.id not in self._load_of:
            insort(self.free, agent.id)
            self._load_of[agent.id] = None
        if self.key.strategy == "least-open":
            self._rank(agent)

    def _rank(self, agent: Agent) -> None:
        before = self._load_of[agent.id]
        if before is not None:
            del self._by_load[bisect_left(self._by_load, before)]
        lines = (agent.as_candidate("served-later"), agent.as_candidate("more-open"))
        now = self._load_of[agent.id] = _Free(agent.open, agent.assigned_last, agent.id, *lines)
        insort(self._by_load, now)

    def _drop(self, agent: str) -> None:
        if agent in self._load_of:
            before = self._load_of.pop(agent)
            del self.free[bisect_left(self.free, agent)]
            if before is not None:
                del self._by_load[bisect_left(self._by_load, before)]

    def next_agent(self, turn: str | None) -> str:
        """Who is served next; ``turn`` is whom the pool served last. There must be somebody free."""
        if self.key.strategy == "least-open":
            return self._by_load[0].agent
        if turn is None:
            return self.free[0]
        return self.free[bisect_right(self.free, turn) % len(self.free)]

    def explain(self, chosen: str, turn: str | None, *, limit: int) -> list[Line]:
        """Who there was and why the others not: at most ``limit``, as the strategy looks, the chosen among them."""
        if self.key.strategy == "least-open":
            lines = self._least_open_first(self._agents[chosen].open, limit)
            place = 0
        else:
            start = 0 if turn is None else bisect_right(self.members, turn)
            lines = self._lines[start : start + limit]
            lines += self._lines[: min(start, limit - len(lines))]
            place = (bisect_left(self.members, chosen) - start) % len(self.members)
        lines[min(place, limit - 1)] = self._agents[chosen].as_candidate(None)
        return lines

    def _least_open_first(self, fewest: int, limit: int) -> list[Line]:
        """The free ones in order, then the others."""
        free = self._by_load[:limit]
        as_few = bisect_left(free, fewest + 1, key=_OPEN)
        lines: list[Line] = [*map(_AS_FEW, free[:as_few]), *map(_MORE, free[as_few:])]
        if len(lines) < limit:
            others = (line for agent, line in zip(self.members, self._lines, strict=True) if agent not in self._load_of)
            lines += islice(others, limit - len(lines))
        return lines

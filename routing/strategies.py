"""Who of a pool gets the next conversation, and why the others do not.

A ``Pool`` holds the agents that a target may choose from, those who are free in the order that its strategy serves
them, and the conversations that wait for one of them. It is an index: ``workspace_index.py`` keeps it current.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from routing.inputs import ConfiguredAgent, PoolTarget, PresenceStatus
from routing.queues import WaitingQueue

CANDIDATES_MAX: Final = 50  #: candidates that a record names

PoolKind: TypeAlias = Literal["agent", "owner", "team", "workspace"]
Strategy: TypeAlias = Literal["round-robin", "least-open", "dedicated", "joined", "by-hand"]


class PoolKey(NamedTuple):
    """What a pool is made of. ``id``: an agent's id or e-mail, the owner's id, the team, or nothing."""

    kind: PoolKind
    id: str
    strategy: Strategy
    only_online: bool


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

    __slots__ = ("_lines", "assigned_last", "id", "max_open", "open", "pools", "presence", "record")

    def __init__(self, agent: str) -> None:
        self.id = agent
        self.record: ConfiguredAgent | None = None  #: None: not one of ours, never a candidate
        self.presence: PresenceStatus = "online"
        self.max_open = 0
        self.open = 0
        self.assigned_last = -1
        self.pools: list[Pool] = []
        self._lines: dict[str | None, dict[str, Any]] = {}

    def hindrance(self, *, only_online: bool) -> str | None:
        """Why he cannot have one more: his presence, or "full"; None: he can."""
        if only_online and self.presence != "online":
            return self.presence
        return "full" if self.open >= self.max_open else None

    def changed(self) -> None:
        """Forget the lines that no longer hold."""
        self._lines.clear()

    def as_candidate(self, passed_over: str | None) -> dict[str, Any]:
        """His line in a record's ``candidates``. Shared by all records until he changes: not to be changed."""
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
    candidates: list[dict[str, Any]] = []
    candidates_total: int = 0
    turn: dict[str, Any] | None = None


class Pool:
    """The agents of one target and who waits for them. ``agents`` is the workspace's, shared by all its pools."""

    __slots__ = ("_agents", "_by_load", "_load_of", "free", "key", "members", "waiting")

    def __init__(self, key: PoolKey, agents: Mapping[str, Agent]) -> None:
        self.key = key
        self._agents = agents
        self.members: list[str] = []  #: ids in order
        self.free: list[str] = []  #: those of them who can have one more
        self._load_of: dict[str, tuple[int, int, str]] = {}
        self._by_load: list[tuple[int, int, str]] = []  #: the free ones, fewest open first; least-open only
        self.waiting = WaitingQueue()

    @property
    def ready(self) -> bool:
        """Somebody waits, and somebody could have him."""
        return bool(self.free) and len(self.waiting) > 0

    def enter(self, agent: Agent) -> None:
        """Make the agent a member."""
        insort(self.members, agent.id)
        self.update(agent)

    def leave(self, agent: Agent) -> None:
        """End the agent's membership."""
        del self.members[bisect_left(self.members, agent.id)]
        self._place(agent.id, None)

    def update(self, agent: Agent) -> None:
        """Take note of the agent's presence, room and load."""
        free = agent.hindrance(only_online=self.key.only_online) is None
        self._place(agent.id, (agent.open, agent.assigned_last, agent.id) if free else None)

    def _place(self, agent: str, load: tuple[int, int, str] | None) -> None:
        before = self._load_of.get(agent)
        if before == load:
            return
        if before is None:
            insort(self.free, agent)
        elif load is None:
            del self.free[bisect_left(self.free, agent)]
        if self.key.strategy == "least-open":
            if before is not None:
                del self._by_load[bisect_left(self._by_load, before)]
            if load is not None:
                insort(self._by_load, load)
        if load is None:
            del self._load_of[agent]
        else:
            self._load_of[agent] = load

    def next_agent(self, turn: str | None) -> str:
        """Who is served next; ``turn`` is whom the pool served last. There must be somebody free."""
        if self.key.strategy == "least-open":
            return self._by_load[0][2]
        if turn is None:
            return self.free[0]
        return self.free[bisect_right(self.free, turn) % len(self.free)]

    def explain(self, chosen: str, turn: str | None, *, limit: int) -> list[dict[str, Any]]:
        """Who there was and why the others not: at most ``limit``, as the strategy looks, the chosen among them."""
        named = self._looked_at(turn, limit)
        if chosen not in named:
            named[limit - 1 :] = [chosen]
        free = "later-turn" if self.key.strategy != "least-open" else None
        fewest = self._agents[chosen].open
        lines: list[dict[str, Any]] = []
        for agent in map(self._agents.__getitem__, named):
            if agent.id == chosen:
                lines.append(agent.as_candidate(None))
            elif agent.id in self._load_of:
                lines.append(agent.as_candidate(free or ("more-open" if agent.open > fewest else "served-later")))
            else:
                lines.append(agent.as_candidate(agent.hindrance(only_online=self.key.only_online)))
        return lines

    def _looked_at(self, turn: str | None, limit: int) -> list[str]:
        if self.key.strategy != "least-open":
            start = 0 if turn is None else bisect_right(self.members, turn)
            after = self.members[start : start + limit]
            return after + self.members[: min(start, limit - len(after))]
        named = [agent for _, _, agent in self._by_load[:limit]]
        others = (agent for agent in self.members if agent not in self._load_of)
        return named + list(islice(others, limit - len(named)))

"""Who of a pool gets the next conversation, and why the others do not.

A ``Pool`` holds the agents that a target may choose from, those who are free in the order that its strategy serves
them, and the conversations that wait for one of them. It is an index: ``pools.py`` keeps it current.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from msgspec import Struct

from routing.desk_agents import Agent, Line
from routing.hours import StandIn
from routing.inputs import PoolTarget
from routing.queues import WaitingQueue
from routing.workspace_parts import TurnPart

CANDIDATES_MAX: Final = 50  #: candidates that a record names
CROWD: Final = 100  #: candidates above which a record names only a few, and counts the others
CROWD_NAMED_MAX: Final = 10

PoolKind: TypeAlias = Literal["agent", "owner", "team", "workspace"]
Strategy: TypeAlias = Literal[
    "round-robin", "least-open", "longest-idle", "sticky", "dedicated", "joined", "by-hand"
]  # fmt: skip
_RANKED: Final = frozenset({"least-open", "longest-idle"})
_TIED: Final = {"least-open": "served-later", "longest-idle": "idle-for-less"}


class PoolKey(NamedTuple):
    """What a pool is made of. ``id``: an agent's id or e-mail, the owner's id, the team, or nothing."""

    kind: PoolKind
    id: str
    strategy: Strategy
    only_online: bool
    language: str | None = None  #: what its agents must speak
    skills: tuple[str, ...] = ()  #: what they must know
    while_closed: tuple[str, ...] = ()  #: the hours that have to be closed for it to serve

    @property
    def turn_name(self) -> str:
        """Names the pool whose turn it is: all targets on one team that ask for the same share one turn."""
        name = f"team/{self.id}" if self.kind == "team" else "workspace"
        needs = [*self.skills] if self.language is None else [f"language={self.language}", *self.skills]
        return "/".join([name, *needs])


@lru_cache(maxsize=4_096)  # targets are those of the policies' routes
def pool_key(target: PoolTarget, language: str | None) -> PoolKey:
    """The pool that a target means for a conversation in ``language`` (None: that does not matter)."""
    while_closed = target.while_closed if isinstance(target, StandIn) else ()
    if target.agent is not None:
        return PoolKey("agent", target.agent, "dedicated", target.only_online, while_closed=while_closed)
    kind, id_ = ("workspace", "") if target.team is None else ("team", target.team)
    skills = tuple(sorted(set(target.skills)))
    return PoolKey(kind, id_, target.strategy, target.only_online, language, skills, while_closed)  # type: ignore[arg-type]


def owner_key(agent: str) -> PoolKey:
    """The pool of joined conversations that wait for room with the owner of the first."""
    return PoolKey("owner", agent, "joined", only_online=False)


class Chosen(Struct, frozen=True, kw_only=True):
    """An agent who gets a conversation, with the reasons that the record gives."""

    agent: str
    strategy: Strategy
    reason: str
    team: str | None = None
    candidates: list[Line] = []
    candidates_total: int = 0
    counts: dict[str, int] | None = None  #: of candidates that are not all named: how many stand how
    turn: dict[str, Any] | None = None


#: Somebody free in a ranked pool: his load, since when, and his id, which order them as the strategy serves them; then
#: what a record says of him if who gets it has as many, and if who gets it has fewer. A plain tuple: one is made of
#: every change of every agent.
_Free: TypeAlias = tuple[float, int, str, Line, Line]
_LOAD: Final = itemgetter(0)  # of _Free
_AGENT: Final = itemgetter(2)
_AS_FEW: Final = itemgetter(3)
_MORE: Final = itemgetter(4)


class Pool:
    """The agents of one target and who waits for them. ``agents`` is the workspace's, shared by all its pools.

    What a record says of each agent is kept beside him, so that explaining a choice costs no look at every agent.
    """

    __slots__ = (
        "_agents", "_by_load", "_counts_open", "_hindered", "_is_ranked", "_lines", "_load_of", "_only_online", "_tied",
        "counts", "free", "is_shut", "key", "members", "turn_name", "waiting",
    )  # fmt: skip

    def __init__(self, key: PoolKey, agents: Mapping[str, Agent]) -> None:
        self.key = key
        self.turn_name = key.turn_name
        self.is_shut = False  #: out of hours: nobody gets anything out of it
        self._agents = agents
        self._only_online = key.only_online
        self._is_ranked = key.strategy in _RANKED
        self._counts_open = key.strategy == "least-open"
        self._tied = _TIED.get(key.strategy, "")
        self.members: list[str] = []  #: ids in order
        self._lines: list[Line] = []  #: of each member, if he does not get it; of free ones in round robin only
        self.free: list[str] = []  #: those members who can have one more
        self._load_of: dict[str, _Free | None] = {}  #: of each who is free; None unless ranked
        self._by_load: list[_Free] = []  #: the same in order
        self._hindered: dict[str, str] = {}  #: why each of the others cannot
        self.counts: dict[str, int] = {}  #: how many of them for each reason
        self.waiting = WaitingQueue()

    @property
    def ready(self) -> bool:
        """Somebody waits, and somebody could have him."""
        return bool(self.free) and not self.is_shut and len(self.waiting) > 0

    def has_free(self, agent: str) -> bool:
        """Whether the agent is a member and can have one more."""
        return agent in self._load_of

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
        self._hinder(agent.id, None)

    def update(self, agent: Agent) -> None:
        """Take note of the agent's presence, room and load."""
        hindrance = agent.hindrance(only_online=self._only_online)
        if hindrance is not None or not self._is_ranked:
            self._lines[bisect_left(self.members, agent.id)] = agent.as_candidate(hindrance or "later-turn")
        if self._hindered.get(agent.id) != hindrance:
            self._hinder(agent.id, hindrance)
        if hindrance is not None:
            self._drop(agent.id)
            return
        if agent.id not in self._load_of:
            insort(self.free, agent.id)
            self._load_of[agent.id] = None
        if self._is_ranked:
            self._rank(agent)

    def _hinder(self, agent: str, hindrance: str | None) -> None:
        before = self._hindered.pop(agent, None)
        if before is not None:
            self.counts[before] -= 1
        if hindrance is not None:
            self._hindered[agent] = hindrance
            self.counts[hindrance] = self.counts.get(hindrance, 0) + 1

    def _rank(self, agent: Agent) -> None:
        before = self._load_of[agent.id]
        if before is not None:
            del self._by_load[bisect_left(self._by_load, before)]
        as_few, more = agent.as_candidate(self._tied), agent.as_candidate("more-open")
        load, since = (agent.load, agent.since) if self._counts_open else (0, agent.idle_since)
        now = self._load_of[agent.id] = (load, since, agent.id, as_few, more)
        insort(self._by_load, now)

    def _drop(self, agent: str) -> None:
        if agent in self._load_of:
            before = self._load_of.pop(agent)
            del self.free[bisect_left(self.free, agent)]
            if before is not None:
                del self._by_load[bisect_left(self._by_load, before)]

    def next_agent(self, turn: TurnPart | None, passed: Collection[str] = ()) -> str | None:
        """Who is served next, none of ``passed``; ``turn`` is whom the pool served last. None: nobody is free."""
        if not passed:
            return self._first(turn)
        order = map(_AGENT, self._by_load) if self._is_ranked else self._in_turn(turn)
        return next((agent for agent in order if agent not in passed), None)

    def _first(self, turn: TurnPart | None) -> str | None:
        if not self.free:
            return None
        if self._is_ranked:
            return self._by_load[0][2]
        if turn is None:
            return self.free[0]
        return turn.agent if self._again(turn) else self.free[bisect_right(self.free, turn.agent) % len(self.free)]

    def _again(self, turn: TurnPart) -> bool:
        """Whether who was served last has a right to more before the turn goes on."""
        return turn.agent in self._load_of and turn.times < self._agents[turn.agent].weight

    def _in_turn(self, turn: TurnPart | None) -> chain[str]:
        start = 0 if turn is None else bisect_right(self.free, turn.agent) - self._again(turn)
        return chain(islice(self.free, start, None), islice(self.free, start))

    def explain(self, chosen: str, turn: TurnPart | None, *, limit: int, passed: Collection[str] = ()) -> list[Line]:
        """Who there was and why the others not: at most ``limit``, as the strategy looks, the chosen among them."""
        if self._is_ranked:
            lines = self._ranked_lines(limit, self._agents[chosen])
            place = 0
        else:
            start = self._start(chosen, turn)
            lines = self._lines[start : start + limit]
            lines += self._lines[: min(start, limit - len(lines))]
            place = (bisect_left(self.members, chosen) - start) % len(self.members)
        if passed:
            names = [line["agent"] for line in lines]
            lines = [self._passed_line(line) if line["agent"] in passed else line for line in lines]
            place = names.index(chosen) if chosen in names else limit
        lines[min(place, limit - 1)] = self._agents[chosen].as_candidate(None)
        return lines

    def _passed_line(self, line: Line) -> Line:
        agent = line["agent"]
        return self._agents[agent].as_candidate("did-not-accept") if agent in self._load_of else line

    def _start(self, chosen: str, turn: TurnPart | None) -> int:
        if turn is None:
            return 0
        side = bisect_left if turn.agent == chosen and self._again(turn) else bisect_right
        return side(self.members, turn.agent)

    def _ranked_lines(self, limit: int, chosen: Agent) -> list[Line]:
        """The free ones in order, then the others."""
        free = self._by_load[:limit]
        load = chosen.load if self._counts_open else 0
        as_few = bisect_right(free, load, key=_LOAD)
        lines: list[Line] = [*map(_AS_FEW, free[:as_few]), *map(_MORE, free[as_few:])]
        if len(lines) < limit:
            others = (line for agent, line in zip(self.members, self._lines, strict=True) if agent not in self._load_of)
            lines += islice(others, limit - len(lines))
        return lines

"""What the slow workspace decider (``workspace_reference.py``) knows of agents and conversations."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from routing.inputs import AgentUpdated, PoolTarget, RouteTarget

Id = tuple[str, str]
Outcome = tuple[Any, ...]
LIVE = {"assigned", "offered", "waiting"}
RANK = {"vip": 0, "escalated": 1, "regular": 2}


@dataclass
class Person:
    """An agent."""

    teams: tuple[str, ...] | None = None  #: None: not one of ours
    email: str | None = None
    max_open: int | None = None
    weight: int = 1
    languages: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    wrap_up: int | None = None
    set_by: str | None = None
    presence: str | None = None
    presence_ms: int | None = None
    record_ms: int | None = None
    seen: list[str] = field(default_factory=list)
    served: int = -1
    idle: int = -1
    held: str | None = None
    missed: int = 0
    wrapping: tuple[int, ...] = ()
    releasing: bool = False
    seq: int = 0

    def says(self) -> tuple[Any, ...] | None:
        more = (self.weight, self.languages, self.skills, self.wrap_up)
        return None if self.teams is None else (self.teams, self.email, self.max_open, *more)

    def hears(self, said: tuple[Any, ...] | None) -> None:
        blank = (None, None, None, 1, (), (), None)
        (self.teams, self.email, self.max_open, self.weight, self.languages, self.skills, self.wrap_up) = said or blank


def says(record: Any) -> tuple[Any, ...]:
    """What a record of an agent says of him."""
    more = (record.weight, tuple(record.languages), tuple(record.skills), record.wrap_up_ms)
    return (tuple(record.teams), record.email, record.max_open, *more)


@dataclass
class Place:
    """Where a conversation waits."""

    route: str
    reason: str
    target: RouteTarget
    escalation: RouteTarget | None
    since: int
    order: int
    queued: int
    join: str | None = None
    overdue: bool = False
    open: bool = False
    fallback_due: int | None = None
    wait_due: int | None = None
    promote_due: int | None = None
    relax_due: int | None = None
    promoted: bool = False
    relaxed: bool = False
    passed: tuple[str, ...] = ()
    language: str | None = None

    def key(self) -> tuple[int, int, int]:
        return (max(RANK[self.route] - self.promoted, 0), self.since, self.order)

    def targets(self) -> list[PoolTarget]:
        fallback = self.target.fallback
        return [self.target, fallback] if self.open and fallback is not None else [self.target]

    def armed(self, now: int) -> Place:
        after = self.target.fallback_after_ms if self.target.fallback is not None else None
        wait = self.target.wait_max_ms
        return replace(
            self,
            open=after is not None and after <= 0,
            fallback_due=None if after is None or after <= 0 else now + after,
            wait_due=None if wait is None else now + wait,
            promote_due=self._in(now, None if self.promoted else self.target.promote_after_ms),
            relax_due=self._in(now, self.target.relax_after_ms),
            relaxed=False,
            passed=(),
        )

    def _in(self, now: int, after: int | None) -> int | None:
        return None if after is None else now + after


@dataclass
class Talk:
    """A conversation."""

    status: str = "new"
    agent: str | None = None
    place: Place | None = None
    seq: int = 0
    armed: int = 0
    token: str | None = None
    until: int = 0
    how: str = ""  #: the strategy by which it was offered
    offers: int = 0

    def order(self) -> tuple[int, ...]:
        return () if self.place is None else self.place.key()


def replace_sorted(body: AgentUpdated) -> AgentUpdated:
    """The record as it is kept: what has no order is sorted."""
    unordered = {name: tuple(sorted(set(getattr(body, name)))) for name in ("teams", "languages", "skills")}
    return structs.replace(body, **unordered)

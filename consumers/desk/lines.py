"""The records of ``assignments.log``, read only as far as figures need: no hashes, no candidates.

What a record must hold is the audit's business, that it follows the one before it is ``reading.py``'s; here one that
cannot be read ends the reading with its place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from msgspec import DecodeError, Raw, Struct, json

from consumers.desk.reading import DamagedError
from events.log import StoredRecord
from events.times import parse_time
from routing.inputs import ConfiguredAgent, PoolTarget, RouteTarget
from routing.strategies import pool_key

TARGETS_MAX: Final = 4_096  #: different targets that are kept read
DEDICATED: Final = "dedicated"
OUTSIDE_HOURS: Final = "outside-hours"  #: the reason where somebody stands in for a team that is out of hours
UNSHARED: Final = frozenset({DEDICATED, "joined", "by-hand", "sticky"})  #: strategies that share nothing out
_NAMES: Final = {DEDICATED: DEDICATED, "joined": "joined", "by-hand": "by hand"}


class Config(Struct, frozen=True):
    """What ``agents.recorded`` says for all agents."""

    max_open: int


class Data(Struct, frozen=True, kw_only=True, gc=False):
    """What the data of an assigner's record say; fields that its type does not have keep their default."""

    to: str | None = None
    agent: ConfiguredAgent | str | None = None  #: an agent's record in ``agent.changed``, else his id
    presence: str | None = None
    wrapping: list[int] | None = None
    config: Config | None = None
    route: str | None = None
    route_reason: str | None = None
    target: Raw = Raw()
    language: str | None = None
    relaxed: bool = False
    team: str | None = None
    strategy: str | None = None
    reason: str | None = None
    wrap_up_until_ms: int | None = None


class Line(Struct, frozen=True, kw_only=True):
    """One record."""

    id: str
    type: str
    time: str
    workspace: str | None = None
    partitionkey: str | None = None
    subject: str | None = None
    data: Data

    @property
    def at_ms(self) -> int:
        """When it was decided."""
        return _at_ms(self.time)

    @property
    def conversation(self) -> tuple[str, str]:
        """Contact and conversation."""
        return self.partitionkey or "", self.subject or ""


class PoolName(NamedTuple):
    """Names what an agent was chosen from: whose turn it is, and how it is chosen."""

    name: str  #: as a record's turn has it: ``team/support``, ``workspace``, with what its agents must speak and know
    strategy: str


class PoolOf(NamedTuple):
    """A pool, with what makes somebody a member."""

    pool: PoolName
    team: str | None = None
    language: str | None = None
    skills: tuple[str, ...] = ()
    only_online: bool = True


_at_ms: Final = lru_cache(maxsize=1024)(parse_time)  # the records of an append share their time
_decode: Final = json.Decoder(Line).decode


def read_line(stored: StoredRecord) -> Line:
    """A stored record; raises ``DamagedError`` naming the place if it is none of ours."""
    try:
        line = _decode(stored.value or b"")
        line.at_ms  # noqa: B018  # raises where the time is none
    except (DecodeError, ValueError) as error:
        raise DamagedError(f"{stored.topic}/{stored.partition} at offset {stored.offset}: {error}") from None
    return line


def asked_pool(data: Data) -> PoolOf:
    """The pool that a conversation's own target means: where it waits first."""
    return _pool_of(bytes(data.target), data.language, data.relaxed, None, None, False)


def giving_pool(data: Data, *, is_fallback: bool) -> PoolOf:
    """The pool out of which ``data``'s agent was chosen. ``is_fallback``: his is the target's fallback."""
    strategy = str(data.strategy)
    if strategy in _NAMES or not data.target:
        return PoolOf(PoolName(_NAMES.get(strategy, strategy), strategy))
    if data.reason == OUTSIDE_HOURS:  # the policy's hours say who stands in, not the route
        return PoolOf(PoolName("workspace" if data.team is None else f"team/{data.team}", strategy), data.team)
    return _pool_of(bytes(data.target), data.language, data.relaxed, strategy, data.team, is_fallback)


@lru_cache(maxsize=TARGETS_MAX)
def _pool_of(
    values: bytes, language: str | None, relaxed: bool, strategy: str | None, team: str | None, is_fallback: bool  # noqa: FBT001
) -> PoolOf:  # fmt: skip
    asked = json.decode(values, type=RouteTarget)
    target: PoolTarget = asked
    is_theirs = strategy == "sticky" and (asked.agent is not None or asked.team != team)
    if asked.fallback is not None and (is_fallback or is_theirs):
        target = asked.fallback
    if target.agent is not None:
        return PoolOf(PoolName(DEDICATED, DEDICATED))
    spoken = language if target.match_language and not relaxed else None
    skills = () if relaxed else tuple(sorted(set(target.skills)))
    key = pool_key(target, spoken)._replace(skills=skills)
    name = PoolName(key.turn_name, strategy or target.strategy)
    return PoolOf(name, target.team, spoken, skills, target.only_online)

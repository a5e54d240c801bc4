"""What telemetry sees of lanes, roles and look-ups: a few figures, read when somebody asks, never written by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from consumers.policy_book import PolicyBook
from events.log import Log, TopicPartition

ATTEMPTS: Final = "attempts"  #: the key of ``LookUpFigures.counts`` that is no outcome


class LaneFigures(NamedTuple):
    """How a lane stands."""

    partition: int
    end: int  #: the log's end, as far as it is folded
    positions: Mapping[str, int]  #: per input topic the next offset to decide; empty before the first take-over
    mark: int | None  #: the lowest log offset with an output not yet confirmed; None: all are
    is_full: bool  #: it decides nothing until outputs are confirmed
    passed_ms: int | None  #: Unix ms at which deadlines were seen passed that wait for earlier inputs; None: none does
    snapshot_end: int = 0  #: the log's end at the newest snapshot that it has loaded or written; 0: there is none


class LaneView(Protocol):
    """What telemetry needs of ``Lane``. ``counts``: inputs, records, batches, aside, fenced, taken over again."""

    counts: Counter[str]
    is_ready: bool

    @property
    def state(self) -> object:
        """What it decides over."""

    def figures(self) -> LaneFigures:
        """How it stands now."""


class RoleView(Protocol):
    """What telemetry needs of a role of this process. One that is neither owned nor standing by is starting."""

    name: str
    is_owned: bool  #: this process works at some of it
    is_standby: bool  #: it works at none of it, because others do
    error: str | None  #: the kind of error that ended it

    @property
    def lanes(self) -> Sequence[LaneView]:
        """The lanes of the partitions that this process has now."""

    @property
    def reads(self) -> Mapping[int, bool]:
        """For each partition that this process has now, whether it was taken over and is read."""

    def is_ready(self) -> bool:
        """Whether all that this process has of the role reads."""


class LookUpFigures(Protocol):
    """How look-ups go. ``counts`` has ended ones by outcome (``answered``, else the reason), and ``attempts``."""

    counts: Counter[str]

    @property
    def in_flight(self) -> int:
        """How many are on their way."""


class Followed(NamedTuple):
    """A role that keeps its position as a group's committed offsets and not in a log of its own."""

    role: str
    group: str
    places: Callable[[], Sequence[TopicPartition]]  #: those that this process has now


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """All of a process that telemetry looks at, once the log is open."""

    log: Log
    roles: Sequence[RoleView]
    book: PolicyBook
    followed: Sequence[Followed] = ()

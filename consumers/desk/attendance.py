"""Who could have been given something, and for how long: an agent's presence and room, as records change them.

A share of work is fair or not only beside the time in which somebody could take it. What agents were given is
``ledger.py``'s business.
"""

from __future__ import annotations

from typing import NamedTuple

from consumers.desk.lines import PoolOf
from routing.inputs import ConfiguredAgent
from routing.texts import look_up, with_wider
from routing.workspace_state import WRAPPING_MAX


class Belonging(NamedTuple):
    """What of an agent's record says which pools are his."""

    teams: tuple[str, ...]
    skills: tuple[str, ...]
    languages: tuple[str, ...]

    def is_of(self, pool: PoolOf) -> bool:
        """Whether such an agent is a member of the pool."""
        if pool.team is not None and pool.team not in self.teams:
            return False
        if pool.language is not None and self.languages and look_up(pool.language, with_wider(self.languages)) is None:
            return False
        return all(skill in self.skills for skill in pool.skills)


class Span:
    """How long somebody had room, milliseconds: in all, and of that while he was online."""

    __slots__ = ("online_ms", "room_ms")

    def __init__(self) -> None:
        self.room_ms = 0
        self.online_ms = 0


class Attendance:
    """An agent as the records have him so far, and for how long he had room since ``restart``.

    After every change ``settle`` is to be called.
    """

    def __init__(self, at_ms: int) -> None:
        self.record: ConfiguredAgent | None = None
        self.presence = "online"  #: who never said is online
        self.open = 0  #: conversations that he owns or was offered
        self.wrapping = 0  #: ended ones that still take room
        self._belonging: Belonging | None = None
        self._spans: dict[Belonging, Span] = {}
        self._counts_as: tuple[Belonging | None, bool] = (None, True)  #: None: no room; and whether he is online
        self._since_ms = at_ms

    @property
    def weight(self) -> int:
        """How much he gets of what others get once."""
        return 1 if self.record is None else self.record.weight

    def told(self, record: ConfiguredAgent | None, presence: str | None, wrapping: list[int] | None) -> None:
        """Take over what ``agent.changed`` says."""
        self.record = record
        self.presence = presence or "online"
        if record is None or wrapping is not None:
            self.wrapping = len(wrapping or ())
        self._belonging = None if record is None else Belonging(record.teams, record.skills, record.languages)

    def wraps_up(self) -> None:
        """Take note that an ended conversation takes room for a while."""
        self.wrapping = min(self.wrapping + 1, WRAPPING_MAX)

    def settle(self, at_ms: int, max_open: int) -> None:
        """Note from when on he counts as somebody else than before. ``max_open``: the policy's, for all."""
        if self.record is not None and self.record.max_open is not None:
            max_open = self.record.max_open
        has_room = self.open + self.wrapping < max_open
        now = (self._belonging if has_room else None, self.presence == "online")
        if now != self._counts_as:
            self.lapse(at_ms)
            self._counts_as = now

    def lapse(self, at_ms: int) -> None:
        """Count the time until now."""
        belonging, is_online = self._counts_as
        if belonging is not None:
            span = self._spans.setdefault(belonging, Span())
            span.room_ms += at_ms - self._since_ms
            span.online_ms += (at_ms - self._since_ms) * is_online
        self._since_ms = at_ms

    def restart(self, at_ms: int) -> None:
        """Count from now on."""
        self._spans = {}
        self._since_ms = at_ms

    def eligible_ms(self, pool: PoolOf) -> int:
        """How long he could have been given something out of the pool, up to the last ``lapse``."""
        spans = [span for belonging, span in self._spans.items() if belonging.is_of(pool)]
        return sum(span.online_ms if pool.only_online else span.room_ms for span in spans)

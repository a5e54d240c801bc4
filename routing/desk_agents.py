"""An agent as he stands now: what he may have, what he has, and how a record tells of him.

``workspace_index.py`` keeps these current; who of several gets a conversation is ``strategies.py``'s business.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from routing.inputs import ConfiguredAgent, PresenceStatus
from routing.texts import look_up, with_wider

Line: TypeAlias = dict[str, Any]  #: one of a record's ``candidates``; shared by records: never to be changed


class Agent:
    """An agent as of now: what his part says, and how many conversations he owns or was offered."""

    __slots__ = (
        "_lines", "assigned_last", "id", "idle_since", "load", "max_open", "open", "presence", "record",
        "releasing", "since", "tongues", "wrapping",
    )  # fmt: skip

    def __init__(self, agent: str) -> None:
        self.id = agent
        self.record: ConfiguredAgent | None = None  #: None: not one of ours, never a candidate
        self.tongues: tuple[str, ...] = ()  #: what he speaks, so that a look-up finds it; empty: nobody said
        self.presence: PresenceStatus = "online"
        self.max_open = 0
        self.open = 0
        self.wrapping = 0  #: ended conversations that still take room
        self.assigned_last = -1
        self.idle_since = -1
        self.releasing = False
        self.load: float = 0  #: what least-open compares first
        self.since = -1  #: ... and then
        self._lines: dict[str | None, Line] = {}

    @property
    def weight(self) -> int:
        """How much he gets of what others get once."""
        return 1 if self.record is None else self.record.weight

    def has_room(self) -> bool:
        """Whether he can have one more."""
        return self.open + self.wrapping < self.max_open

    def hindrance(self, *, only_online: bool) -> str | None:
        """Why he cannot have one more: his presence, "full" or "wrapping-up"; None: he can."""
        if only_online and self.presence != "online":
            return self.presence
        if self.open + self.wrapping < self.max_open:
            return None
        return "full" if self.open >= self.max_open else "wrapping-up"

    def speaks(self, language: str) -> bool:
        """Whether he speaks a language, ``pt`` for ``pt-BR`` too; where nobody said what he speaks, he does."""
        return not self.tongues or look_up(language, self.tongues) is not None

    def learn(self, *, with_wider_languages: bool) -> None:
        """Bring what he speaks up to date with his record. ``with_wider_languages``: who speaks pt-BR speaks pt."""
        languages = () if self.record is None else self.record.languages
        self.tongues = with_wider(languages) if with_wider_languages else languages

    def changed(self, *, by_room: bool) -> None:
        """Forget the lines that no longer hold, and weigh his load: ``by_room`` relative to what he may have."""
        self._lines.clear()
        if by_room:
            self.load, self.since = self.open / max(self.max_open * self.weight, 1), self.idle_since
        else:
            self.load, self.since = self.open, self.assigned_last

    def as_candidate(self, passed_over: str | None) -> Line:
        """His line in a record's ``candidates``, the same until he changes."""
        line = self._lines.get(passed_over)
        if line is None:
            line = {"agent": self.id, "open": self.open, "max_open": self.max_open, "presence": self.presence}
            if self.wrapping:
                line["wrapping"] = self.wrapping
            if self.weight != 1:
                line["weight"] = self.weight
            if passed_over is not None:
                line["passed_over"] = passed_over
            self._lines[passed_over] = line
        return line

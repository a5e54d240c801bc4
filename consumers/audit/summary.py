"""Where a conversation stands after its records: its state, and who has it or whom it waits for.

The state is the router's word. Who has it is the assigner's, which may have moved it on to another route meanwhile.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from consumers.audit.words import whom_words
from events.times import format_time


class Summary(Struct, kw_only=True):
    """What the steps have led to so far; ``route`` and what follows are the assigner's word."""

    state: str | None = None
    owner: str | None = None
    policy: str | None = None
    policy_name: str | None = None
    run: int = 0
    status: str | None = None
    route: str | None = None
    offered_to: str | None = None
    until_ms: int | None = None
    target: str = ""  #: whom it waits for
    since_ms: int = 0  #: since when it has waited for that route

    @property
    def stands(self) -> str:
        """Its state, and who has it or whom it waits for."""
        state = self.state or "never opened"
        if self.status == "waiting":
            whom = f" ({self.target})" if self.target else ""
            return f"{state}; waits for route {self.route}{whom} since {format_time(self.since_ms)}"
        if self.status == "offered":
            until = "" if self.until_ms is None else f" until {format_time(self.until_ms)}"
            return f"{state}; offered to {self.offered_to}{until}{self._other_route}"
        return f"{state}, with {self.owner or 'nobody'}{self._other_route if self.owner else ''}"

    @property
    def _other_route(self) -> str:
        """The route by which it was given, where that is not the one that its state says."""
        same = self.route is None or self.state in (self.route, f"routed-{self.route}")
        return "" if same else f" (route {self.route})"

    def assign(self, data: dict[str, Any], at_ms: int) -> None:
        """Take a record of the assigner that moves the conversation."""
        to, route = data["to"], data.get("route")
        if to == "waiting":
            if (self.status, self.route) != ("waiting", route):
                self.since_ms = at_ms
            self.target = whom_words(data.get("target"))
        self.until_ms = data.get("until_ms", self.until_ms if to == self.status else None)
        self.status, self.route = to, route
        self.owner = data["agent"] if to == "assigned" else None
        self.offered_to = data["agent"] if to == "offered" else None

"""Hours, told again from ``assignments.log``: by the wall clocks of the zones, and by what the records say of them.

Teams open and close when the clock says so, and in between nobody of a closed team is given anything by the router.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from tests.simulation.observer import ViolationError

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
_OF_POOLS: Final = frozenset({"round-robin", "least-open", "longest-idle", "sticky"})


def on_the_wall(hours: dict[str, Any], at_ms: int) -> bool:
    """Whether the clock of the zone shows a time of the hours."""
    wall = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(ZoneInfo(hours["zone"]))
    here_ms = ((wall.hour * 60 + wall.minute) * 60 + wall.second) * 1000 + wall.microsecond // 1000
    dates = dict(hours.get("dates", []))
    for day, ms in ((wall.date(), here_ms), (wall.date() - timedelta(days=1), here_ms + DAY_MS)):
        spans = dates.get(day.isoformat(), hours["week"][day.weekday()])
        if any(start <= ms < end for start, end in spans):
            return True
    return False


@dataclass
class Hours:
    """The hours of a workspace, as its records have told."""

    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    standing: dict[str, tuple[bool, int]] = field(default_factory=dict)
    seq: int = 0  #: the record that armed the present deadline

    def feed(self, type_: str, data: dict[str, Any], at_ms: int, where: str) -> None:
        """Take the next record of the workspace."""
        if type_ == "agents.recorded":
            rules = data["config"].get("hours", {})
            self.standing = {n: said for n, said in self.standing.items() if rules.get(n) == self.rules[n]}
            self.rules, self.seq = rules, data["seq"]
        elif type_ == "hours.changed":
            self._turned(data, at_ms, where)

    def _turned(self, data: dict[str, Any], at_ms: int, where: str) -> None:
        name, is_open, until_ms = data["hours"], data["open"], data["until_ms"]
        rules = self.rules[name]
        minutes = range(at_ms - at_ms % MINUTE_MS + MINUTE_MS, min(until_ms, at_ms + 6 * 3_600_000), MINUTE_MS)
        if not all(on_the_wall(rules, each) == is_open for each in (at_ms, *minutes)):
            raise ViolationError("hours", f"{where}: {name} is told to be {is_open} until {until_ms}: the wall says no")
        if name in self.standing and at_ms < self.standing[name][1]:
            raise ViolationError("hours", f"{where}: {name} changes before {self.standing[name]}")
        self.standing[name], self.seq = (is_open, until_ms), data["seq"]

    @property
    def due_ms(self) -> int | None:
        """When some are to be decided next; those that never were are due at once."""
        return min((self.standing.get(name, (False, 0))[1] for name in self.rules), default=None)

    def of(self, target: dict[str, Any]) -> str | None:
        """The hours of a target, as JSON values."""
        for name, rules in self.rules.items():
            if target.get("team") in rules.get("teams", ()) or (target.get("workspace") and rules.get("workspace")):
                return name
        return None

    def serving(self, targets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Who serves now: each target if it is there, else who stands in for it."""
        for target in targets:
            who: dict[str, Any] | None = target
            seen: set[str] = set()
            while who is not None:
                name = self.of(who)
                if name is None or self.standing.get(name, (False, 0))[0]:
                    yield who
                    break
                if name in seen:
                    break
                seen.add(name)
                who = self.rules[name].get("outside")

    def check_given(self, data: dict[str, Any], at_ms: int, where: str) -> None:
        """Whoever is given something as one of a pool is so in its hours."""
        if data["strategy"] in _OF_POOLS and data["reason"] != "accepted":
            name = self.of({"team": data["team"], "workspace": data["team"] is None})
            if name is not None and not on_the_wall(self.rules[name], at_ms):
                raise ViolationError("hours", f"{where} is given to {data['agent']} while {name} is closed")

    def check_turned(self, over_ms: int, where: str) -> None:
        """At the end: whoever had to open or close has done so."""
        if self.due_ms is not None and self.due_ms < over_ms:
            raise ViolationError("progress", f"{where}: hours are due since {self.due_ms}: {self.standing}")

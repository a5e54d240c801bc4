"""The hours of the slow workspace decider (``workspace_reference.py``): no index, and the wall clock looked at anew."""

from __future__ import annotations

from datetime import date
from typing import Any

from routing.inputs import Offsets, PoolTarget, TeamHours

DAY = 86_400_000
YEAR = 370 * DAY


def said_of(rules: TeamHours, day: int) -> tuple[tuple[int, int], ...]:
    """What begins on a day, counted from 1970."""
    name = date.fromordinal(date(1970, 1, 1).toordinal() + day)
    return dict(rules.dates).get(name.isoformat(), rules.week[name.weekday()])


def is_open(rules: TeamHours, zone: Offsets, at: int) -> bool:
    """Whether the wall shows a time of today's spans, or of one that has begun yesterday."""
    wall = at + [offset for start, offset in zone if start <= at or start == zone[0][0]][-1]
    day, here = divmod(wall, DAY)
    today = any(start <= here < end for start, end in said_of(rules, day))
    return today or any(start <= here + DAY < end for start, end in said_of(rules, day - 1))


def until(rules: TeamHours, zone: Offsets, now: int) -> int:
    """When it is otherwise: any edge of the next days, on any of the zone's clocks, is tried."""
    first = now // DAY - 2
    edges = {start for start, _ in zone}
    for day in range(first, first + 12):
        for span in said_of(rules, day):
            edges |= {day * DAY + edge - offset for edge in span for _, offset in zone}
    before = is_open(rules, zone, now)
    return min((at for at in edges if at > now and is_open(rules, zone, at) != before), default=now + YEAR)


class ReferenceHours:
    """What the policy says of hours, and how they stand."""

    def __init__(self) -> None:
        self.rules: dict[str, TeamHours] = {}
        self.zones: dict[str, Offsets] = {}
        self.standing: dict[str, tuple[bool, int]] = {}
        self.seq = 0

    def told(self, rules: dict[str, TeamHours], zones: dict[str, Offsets]) -> None:
        """The policy says this from now on; what it said before of the same hours stands."""
        same = [
            name
            for name in self.standing
            if rules.get(name) == self.rules[name] and zones.get(rules[name].zone) == self.zones[rules[name].zone]
        ]
        self.standing = {name: self.standing[name] for name in same}
        self.rules, self.zones = dict(rules), dict(zones)

    def due(self, now: int) -> list[tuple[int, str]]:
        """Hours that are to be decided."""
        found = [(self.standing.get(name, (False, 0))[1], name) for name in self.rules]
        return sorted((at, name) for at, name in found if at <= now)

    def next_due(self) -> int | None:
        """When some are to be decided."""
        return min((self.standing.get(name, (False, 0))[1] for name in self.rules), default=None)

    def turn(self, now: int) -> tuple[str, bool, int]:
        """Decide those that have been due for longest."""
        name = self.due(now)[0][1]
        rules = self.rules[name]
        zone = self.zones[rules.zone]
        self.standing[name] = (is_open(rules, zone, now), until(rules, zone, now))
        return (name, *self.standing[name])

    def of(self, target: PoolTarget) -> str | None:
        """The hours of a target."""
        for name, rules in self.rules.items():
            if target.team in rules.teams or (target.workspace and rules.workspace):
                return name
        return None

    def closed(self, name: str | None) -> bool:
        """Whether these hours are closed; hours that nobody has decided are."""
        return name is not None and not self.standing.get(name, (False, 0))[0]

    def closed_on_the_wall(self, target: PoolTarget, at: int) -> bool:
        """Whether a target is out of hours, whatever has been decided."""
        name = self.of(target)
        return name is not None and not is_open(self.rules[name], self.zones[self.rules[name].zone], at)

    def serving(self, targets: list[PoolTarget]) -> list[tuple[PoolTarget, bool]]:
        """Who serves now: of the targets those who are there, else those who stand in (True)."""
        found: list[tuple[PoolTarget, bool]] = []
        for target in targets:
            who: Any = target
            seen: list[str] = []
            while who is not None:
                name = self.of(who)
                if not self.closed(name):
                    found.append((who, who is not target))
                    break
                if name is None or name in seen:
                    break
                seen.append(name)
                who = self.rules[name].outside
        return found

"""The hours of a workspace's teams: who is closed now, who stands in for whom, and when that is to be decided again.

How hours stand is decided, once for each opening and closing, by a record of its own (``hours.changed``), and nothing
else is decided while that is due. So nobody ever looks at a calendar to serve somebody: a pool is shut or it is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import asdict

from routing.decider import Decision
from routing.hours import StandIn, clock
from routing.inputs import PoolTarget, RouteTarget, TeamHours
from routing.strategies import PoolKey
from routing.workspace_parts import ConfigPart, Routing, read_target, relaxed
from routing.workspace_records import of_nobody

_BY_ROUTER: Final = frozenset({"fallback", "outside-hours"})  #: reasons why it was not the first choice


class DeskHours:
    """What follows from the hours in a workspace's ``ConfigPart``; made anew when that changes."""

    def __init__(self, config: ConfigPart) -> None:
        self.rules = config.hours
        self._until_ms = dict.fromkeys(config.hours, 0) | {name: now.until_ms for name, now in config.hours_now.items()}
        self._open = {name for name, now in config.hours_now.items() if now.open}
        self._of_team = {team: name for name, hours in config.hours.items() for team in hours.teams}
        self._of_workspace = next((name for name, hours in config.hours.items() if hours.workspace), None)
        self._stand_ins = {name: tuple(self._chain(name)) for name in config.hours}
        self.due_ms = min(self._until_ms.values())  #: when hours are to be decided next; 0: they never were

    def _chain(self, name: str) -> Iterable[StandIn]:
        """Who stands in while these hours are closed, then who does while those are too; nobody twice."""
        gates: list[str] = []
        next_: str | None = name
        while next_ is not None and next_ not in gates:
            outside = self.rules[next_].outside
            gates.append(next_)
            if outside is None:
                return
            yield StandIn(**asdict(outside), while_closed=tuple(gates))
            next_ = self._of(outside.team, workspace=outside.workspace)

    def _of(self, team: str | None, *, workspace: bool) -> str | None:
        """The hours of a team, or of the workspace; None: always open."""
        if team is not None:
            return self._of_team.get(team)
        return self._of_workspace if workspace else None

    def is_shut(self, key: PoolKey) -> bool:
        """Whether nobody gets anything out of this pool now."""
        if any(name in self._open for name in key.while_closed):
            return True
        name = self._of(key.id if key.kind == "team" else None, workspace=key.kind == "workspace")
        return name is not None and name not in self._open

    def all_of(self, routing: Routing) -> tuple[PoolTarget, ...]:
        """A conversation's targets, each followed by those who stand in for it, shut or not."""
        found = self._with_stand_ins(routing.targets)
        if routing.relaxed:
            found = [relaxed(target) if isinstance(target, StandIn) else target for target in found]
        return tuple(found)

    def open_of(self, routing: Routing) -> list[PoolTarget]:
        """Those of ``all_of`` that serve now."""
        return [target for target in self.all_of(routing) if not self._is_closed(target)]

    def _with_stand_ins(self, targets: Iterable[PoolTarget]) -> list[PoolTarget]:
        found: list[PoolTarget] = []
        for target in targets:
            name = self._of(target.team, workspace=target.workspace)
            found += [target, *(() if name is None else self._stand_ins[name])]
        return found

    def _is_closed(self, target: PoolTarget) -> bool:
        if isinstance(target, StandIn) and any(name in self._open for name in target.while_closed):
            return True
        name = self._of(target.team, workspace=target.workspace)
        return name is not None and name not in self._open

    def next_due(self) -> str:
        """The hours that are to be decided next."""
        return min(self.rules, key=lambda name: (self._until_ms[name], name))

    def explained(self, decision: Decision | None) -> Decision | None:
        """The decision, with what hours had to do with it."""
        if decision is not None and "target" in decision.data and "join" not in decision.data:
            waits = decision.data["to"] == "waiting"
            if waits or decision.data.get("reason") in _BY_ROUTER:
                self._explain(decision.data, waits=waits)
        return decision

    def _explain(self, data: dict[str, Any], *, waits: bool) -> None:
        target: RouteTarget = read_target(data["target"])
        fallback = target.fallback if data.get("fallback_open") else None
        targets: list[PoolTarget] = [target] if fallback is None else [target, fallback]
        names = {self._of(each.team, workspace=each.workspace) for each in targets} - {None}
        closed = {name: self._until_ms[name] for name in sorted(map(str, names)) if name not in self._open}
        if not closed:
            return
        data["closed"] = closed
        everybody = self._with_stand_ins(targets)
        if waits and all(map(self._is_closed, everybody)):
            own = (self._of(each.team, workspace=each.workspace) for each in everybody)
            data["opens_ms"] = min(self._until_ms[name] for name in own if name is not None and name not in self._open)


def hours_of(config: ConfigPart) -> DeskHours | None:
    """The hours of a workspace; None: it has none."""
    return DeskHours(config) if config.hours else None


def turn_next(config: ConfigPart, hours: DeskHours, now_ms: int) -> Decision:
    """Open or close the teams of the next hours that are due; ``hours`` are those of ``config``."""
    name = hours.next_due()
    rules: TeamHours = config.hours[name]
    is_open, until_ms = clock(rules, config.zones[rules.zone]).standing(now_ms)
    data = {"hours": name, "open": is_open, "until_ms": until_ms}
    return of_nobody(config, "hours.changed", data, more=True)

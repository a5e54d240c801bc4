"""Whether a policy's hours make sense: they open, close somebody, and lead somewhere else than they began."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from routing.hours import DAY_MS, DAYS, closed_longest_ms
from routing.inputs import TeamHours
from routing.policy import Policy
from routing.policy_lines import Path, dotted
from routing.policy_reader import Document, suggestion
from routing.policy_targets import Target, check_target

_WEEK_MS: Final = 7 * DAY_MS
_HOUR_MS: Final = 3_600_000


def check(policy: Policy, document: Document) -> None:
    """Raise ``PolicyError`` for the first hours that cannot work, with key and line."""
    for name, hours in policy.hours.items():
        path = ("hours", name)
        _check_week(hours.rules, path, document)
        if not hours.rules.teams and not hours.rules.workspace:
            raise document.error(path, 'they hold for nobody: name teams = ["..."], or workspace = true')
        _check_outside(hours.rules, path, document)
    _check_whose(policy, document)


def outsides(policy: Policy) -> list[Target]:
    """Everybody who stands in out of hours."""
    return [hours.rules.outside for hours in policy.hours.values() if hours.rules.outside is not None]


def warnings(policy: Policy) -> Iterator[str]:
    """Routes whose conversations wait less long than their team is closed."""
    for route in ("vip", "regular"):
        values = policy.routes.named(route)
        name = policy.hours_of(values.team, workspace=values.workspace)
        if name is None or policy.hours[name].rules.outside is not None or values.wait_max_ms is None:
            continue
        closed_ms = closed_longest_ms(policy.hours[name].rules.week)
        if values.wait_max_ms < closed_ms:
            yield (
                f"route.{route}.wait_max: {dotted(('hours', name))} is closed for up to {closed_ms // _HOUR_MS} "
                "hours, so who comes out of hours is escalated before it opens"
            )


def _check_week(rules: TeamHours, path: Path, document: Document) -> None:
    spans = [(day * DAY_MS + start, day * DAY_MS + end) for day in range(7) for start, end in rules.week[day]]
    if not spans:
        raise document.error(path, f'it never opens: give at least one day of the week, {DAYS[0]} = ["09:00-17:00"]')
    around = [*spans, (spans[0][0] + _WEEK_MS, spans[0][1] + _WEEK_MS)]
    for before, after in pairwise(around):
        if after[0] < before[1]:
            day = DAYS[after[0] // DAY_MS % 7]
            raise document.error((*path, day), "it overlaps what has begun the day before and passes midnight")


def _check_outside(rules: TeamHours, path: Path, document: Document) -> None:
    outside = rules.outside
    if outside is None:
        return
    path = (*path, "outside")
    check_target(outside, path, document, agent_from=None)
    if outside.team in rules.teams or (outside.workspace and rules.workspace):
        raise document.error(path, "it leads back to who is closed then: name somebody else, or leave it out")


def _check_whose(policy: Policy, document: Document) -> None:
    """Every team of hours is one that somebody is sent to, and has no other hours."""
    named = _named(policy)
    teams = sorted({target.team for target in named if target.team is not None})
    owners: dict[str, str] = {}
    for name, hours in policy.hours.items():
        for index, team in enumerate(hours.rules.teams):
            path = ("hours", name, "teams", index)
            if team not in teams:
                problem = f"no route leads to team {team[:64]!r}, so its hours have no effect{suggestion(team, teams)}"
                raise document.error(path, problem)
            if team in owners:
                raise document.error(path, f"{dotted(('hours', owners[team]))} has the hours of this team already")
            owners[team] = name
        if hours.rules.workspace:
            _check_workspace(name, named, owners, document)


def _check_workspace(name: str, named: list[Target], owners: dict[str, str], document: Document) -> None:
    path = ("hours", name, "workspace")
    if not any(target.workspace for target in named):
        raise document.error(path, "no route leads to the workspace, so its hours have no effect: leave it out")
    if "" in owners:
        raise document.error(path, f"{dotted(('hours', owners['']))} has the hours of the workspace already")
    owners[""] = name


def _named(policy: Policy) -> list[Target]:
    """Everybody whom a route, a fallback or ``outside`` names."""
    routes = (policy.routes.vip, policy.routes.regular, policy.routes.escalated)
    fallbacks = [route.fallback for route in routes if route.fallback is not None]
    return [*routes, *fallbacks, *outsides(policy)]

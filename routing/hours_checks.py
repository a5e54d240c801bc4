"""Whether a policy's hours make sense: they open, close somebody, and lead somewhere else than they began."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from routing.hours import DAY_MS, DAYS, closed_longest_ms, joined
from routing.inputs import Span, TeamHours
from routing.policy import Hours, Policy
from routing.policy_lines import Path, dotted
from routing.policy_reader import Document, Remark, suggestion
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


def outsides(policy: Policy) -> list[tuple[Path, Target]]:
    """Everybody who stands in out of hours, with where he is named."""
    outside = {name: hours.rules.outside for name, hours in policy.hours.items()}
    return [(("hours", name, "outside"), target) for name, target in outside.items() if target is not None]


def warnings(policy: Policy) -> Iterator[Remark]:
    """Who never stands in, and routes whose conversations wait less long than their team is closed."""
    for closed, hours in policy.hours.items():
        if hours.rules.outside is not None and not _stands_in(policy, closed):
            problem = "whoever is named is closed whenever these hours are, so nobody ever stands in"
            yield ("hours", closed, "outside"), f"{problem}: name somebody else, or give his team other hours"
    for route in ("vip", "regular"):
        values = policy.routes.named(route)
        name = policy.hours_of(values.team, workspace=values.workspace)
        if name is None or values.wait_max_ms is None or _stands_in(policy, name):
            continue
        closed_ms = closed_longest_ms(policy.hours[name].rules.week)
        if values.wait_max_ms < closed_ms:
            problem = f"{dotted(('hours', name))} is closed for up to {closed_ms // _HOUR_MS} hours"
            yield ("route", route, "wait_max"), f"{problem}, so who comes out of hours is escalated before it opens"


def _stands_in(policy: Policy, name: str) -> bool:
    """Whether somebody may ever serve because these hours are closed; who stands in has others who do for him."""
    own, passed, next_ = policy.hours[name], [name], _after(policy, name)
    while next_ is not None and next_ not in passed:
        if not next_ or not _is_within(policy.hours[next_], own):
            return True
        passed.append(next_)
        next_ = _after(policy, next_)
    return False


def _after(policy: Policy, name: str) -> str | None:
    """The hours of whoever stands in for these; "": he is always there; None: nobody does."""
    outside = policy.hours[name].rules.outside
    return None if outside is None else policy.hours_of(outside.team, workspace=outside.workspace) or ""


def _is_within(inner: Hours, outer: Hours) -> bool:
    """Whether ``inner`` is surely never open while ``outer`` is closed: where zones or dates differ, it may be."""
    if inner.offsets != outer.offsets or inner.rules.dates != outer.rules.dates:
        return False
    around = _ordinary(outer.rules)
    return joined([*around, *_ordinary(inner.rules)]) == around


def _ordinary(rules: TeamHours) -> list[Span]:
    """When it is open in a week without dates that differ, what began the week before included."""
    spans = [(day * DAY_MS + start, day * DAY_MS + end) for day in range(-1, 7) for start, end in rules.week[day]]
    return joined((max(start, 0), min(end, _WEEK_MS)) for start, end in spans if end > 0)


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
    return [*routes, *fallbacks, *(target for _, target in outsides(policy))]

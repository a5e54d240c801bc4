"""Names of agents, teams and skills that are nearly, but not quite, those of ``[agents]``.

Agents may come by ``agents.events`` too, so a name that nobody has is no mistake for sure: it is only asked about.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Final

from routing.policy import Policy
from routing.policy_lines import Path
from routing.policy_reader import Remark
from routing.policy_targets import Target

NAME_CHARS_MAX: Final = 64  #: of a name no more is compared
COMPARED_MAX: Final = 30_000  #: pairs of names; where there are more, only case is looked at
_CUTOFF: Final = 0.75  #: two letters of four exchanged are a slip


def warnings(policy: Policy, targets: list[tuple[Path, Target]]) -> Iterator[Remark]:
    """The names in ``targets`` that may be slips."""
    agents = policy.agents.agents
    emails = {record.email.casefold() for record in agents.values() if record.email is not None}
    teams = _Known({team for record in agents.values() for team in record.teams})
    skills = _Known({skill for record in agents.values() for skill in record.skills})
    named = _Known({*agents, *emails})
    for path, target in targets:
        if target.agent is not None and target.agent.casefold() not in emails:
            yield from named.near((*path, "agent"), target.agent)
        if target.team is not None:
            yield from teams.near((*path, "team"), target.team)
        for index, skill in enumerate(target.skills):
            yield from skills.near((*path, "skills", index), skill)


class _Known:
    """The names of one kind that ``[agents]`` has."""

    def __init__(self, names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._shortened = sorted({name[:NAME_CHARS_MAX] for name in names})
        self._folded = {name.casefold(): name for name in sorted(names)}
        self._left = COMPARED_MAX

    def near(self, path: Path, named: str) -> Iterator[Remark]:
        """The finding that ``named`` is nearly one of them; nothing if it is one, or is like none."""
        if named in self._names:
            return
        near = self._folded.get(named.casefold()) or self._similar(named[:NAME_CHARS_MAX])
        if near is not None:
            yield path, f"[agents] has {near!r} but no {named!r}: is it a slip?"

    def _similar(self, named: str) -> str | None:
        self._left -= len(self._names)
        if self._left < 0:
            return None
        return next(iter(get_close_matches(named, self._shortened, n=1, cutoff=_CUTOFF)), None)

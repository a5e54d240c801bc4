"""Whom a policy's table names: one agent, a team or the workspace, and how one of several is chosen."""

from __future__ import annotations

from typing import Any, Final, Protocol

from routing.policy_lines import Path
from routing.policy_reader import Document, Table

ID_CHARS_MAX: Final = 200  #: of an agent's or a team's id
TARGET_KEYS: Final = ("agent", "team", "workspace", "strategy", "only_online", "skills", "match_language")
STRATEGIES: Final = ("round-robin", "least-open", "longest-idle")
_CHOOSES: Final = {
    "strategy": "a strategy chooses",
    "skills": "skills choose",
    "match_language": "a language chooses",
    "sticky": "it chooses",
}


class Target(Protocol):
    """What a route and a pool target have in common."""

    @property
    def agent(self) -> str | None:
        """An agent's id or e-mail address."""

    @property
    def team(self) -> str | None:
        """A team."""

    @property
    def workspace(self) -> bool:
        """Everybody."""

    @property
    def skills(self) -> tuple[str, ...]:
        """What the agents must know."""


def read_target(table: Table) -> dict[str, Any]:
    """The fields that a route and a ``PoolTarget`` share."""
    return {
        "agent": table.text("agent", None, chars_max=ID_CHARS_MAX),
        "team": table.text("team", None, chars_max=ID_CHARS_MAX),
        "workspace": table.flag("workspace", False),
        "strategy": table.choice("strategy", "round-robin", STRATEGIES),
        "only_online": table.flag("only_online", True),
        "skills": table.texts("skills", (), chars_max=ID_CHARS_MAX),
        "match_language": table.flag("match_language", False),
    }


def check_target(target: Target, path: Path, document: Document, *, agent_from: str | None) -> None:
    """Exactly one target, and nothing said that has no effect on it; raises ``PolicyError``."""
    named = [
        key
        for key, value in (("agent", target.agent), ("agent_from", agent_from), ("team", target.team))
        if value is not None
    ]
    if target.workspace:
        named.append("workspace")
    is_route = path[-1] not in {"fallback", "outside"}
    choices = "agent, agent_from, team or workspace = true" if is_route else "agent, team or workspace = true"
    if not named:
        raise document.error(path, f"it names nobody: give one of {choices}")
    if len(named) > 1:
        raise document.error((*path, named[-1]), f"it names {' and '.join(named)}: give only one of {choices}")
    if named[0] in ("agent", "agent_from"):
        for key in ("strategy", "skills", "match_language", "sticky"):
            if document.has((*path, key)):
                raise document.error((*path, key), f"{_CHOOSES[key]} among a team or the workspace: leave it out here")

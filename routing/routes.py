"""What the router asks of the assigner: a policy's route, resolved with a conversation's variables."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from msgspec import to_builtins
from msgspec.structs import asdict

from routing.inputs import Channel, RouteName, RouteTarget
from routing.policy import Policy, Route


def resolve(route: Route, variables: Mapping[str, Any]) -> RouteTarget:
    """The route as the assigner gets it: ``agent_from`` replaced by the variable's value.

    Where the variable is missing there is nobody to wait for: the fallback is the target at once, the policy check
    having made sure that there is one (in policies recorded before it did, it is the whole workspace).
    """
    agent = route.agent
    if route.agent_from is not None:
        value = variables.get(route.agent_from)
        agent = str(value).strip() if value is not None else ""
        if not agent and route.fallback is not None:
            return RouteTarget(
                **asdict(route.fallback),
                wait_max_ms=route.wait_max_ms,
                accept_ms=route.accept_ms,
                promote_after_ms=route.promote_after_ms,
                relax_after_ms=route.relax_after_ms,
            )
    return RouteTarget(
        agent=agent or None,
        team=route.team,
        workspace=route.workspace,
        strategy=route.strategy,
        only_online=route.only_online,
        fallback=route.fallback,
        fallback_after_ms=route.fallback_after_ms,
        wait_max_ms=route.wait_max_ms,
        skills=route.skills,
        match_language=route.match_language,
        sticky_ms=route.sticky_ms,
        accept_ms=route.accept_ms,
        promote_after_ms=route.promote_after_ms,
        relax_after_ms=route.relax_after_ms,
    )


def request(
    policy: Policy,
    route: RouteName,
    reason: str,
    *,
    language: str,
    channel: Channel | None,
    variables: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
    join: str | None = None,
) -> dict[str, Any]:
    """An ``assignment.requested`` as JSON values. ``personal`` variables may choose the agent but are not passed on."""
    known = {**(variables or {}), **personal} if personal else variables or {}
    values: dict[str, Any] = {
        "type": "assignment.requested",
        "route": route,
        "route_reason": reason,
        "target": _target(policy.routes.named(route), known),
    }
    if route != "escalated":
        values["escalation"] = _target(policy.routes.escalated, known)
    if variables:
        values["variables"] = dict(variables)
    values["policy"] = policy.version
    values["language"] = language
    if channel is not None:
        values["channel"] = to_builtins(channel)
    if join is not None:
        values["join"] = join
    return values


def _target(route: Route, variables: Mapping[str, Any]) -> dict[str, Any]:
    return _fixed_target(route) if route.agent_from is None else to_builtins(resolve(route, variables))


@lru_cache(maxsize=256)  # the same for every conversation: shared, and never changed
def _fixed_target(route: Route) -> dict[str, Any]:
    values: dict[str, Any] = to_builtins(resolve(route, {}))
    return values

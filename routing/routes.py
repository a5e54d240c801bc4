"""What the router asks of the assigner: a policy's route, resolved with a conversation's variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins
from msgspec.structs import asdict

from routing.inputs import AssignmentRequested, Channel, RouteName, RouteTarget
from routing.policy import Policy, Route


def resolve(route: Route, variables: Mapping[str, Any]) -> RouteTarget:
    """The route as the assigner gets it: ``agent_from`` replaced by the variable's value.

    Where the variable is missing there is nobody to wait for: the fallback is the target at once, the policy check
    having made sure that there is one.
    """
    agent = route.agent
    if route.agent_from is not None:
        value = variables.get(route.agent_from)
        agent = str(value).strip() if value is not None else ""
        if not agent and route.fallback is not None:
            return RouteTarget(**asdict(route.fallback), wait_max_ms=route.wait_max_ms)
    return RouteTarget(
        agent=agent or None,
        team=route.team,
        workspace=route.workspace,
        strategy=route.strategy,
        only_online=route.only_online,
        fallback=route.fallback,
        fallback_after_ms=route.fallback_after_ms,
        wait_max_ms=route.wait_max_ms,
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
    known = {**(variables or {}), **(personal or {})}
    routes = policy.routes
    chosen = {"vip": routes.vip, "regular": routes.regular, "escalated": routes.escalated}[route]
    body = AssignmentRequested(
        route=route,
        route_reason=reason,
        target=resolve(chosen, known),
        escalation=None if route == "escalated" else resolve(routes.escalated, known),
        variables=dict(variables or {}),
        policy=policy.version,
        language=language,
        channel=channel,
        join=join,
    )
    values: dict[str, Any] = to_builtins(body)
    return values

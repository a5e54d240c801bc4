"""What a contact is told who comes when everybody who could have his conversation is out of hours.

It is said by the record that asks for an owner, and a conversation does that once in a run. What is decided here is
only what is said; whether the conversation waits is the assigner's business (``desk_hours.py``), which knows agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import to_builtins

from routing import texts
from routing.hours import clock
from routing.policy import Hours, Policy


def tell_if_closed(
    policy: Policy,
    adds: dict[str, Any],
    pii: dict[str, Any],
    *,
    attempt: int,
    language: str,
    name: str | None,
    now_ms: int,
) -> None:
    """Add to a record that asks for an owner that nobody is there, if it is so and the policy wants it said."""
    if not policy.hours:
        return
    request = adds.get("request")
    if request is None or request["type"] != "assignment.requested" or "join" in request:
        return
    closed = _closed(policy, request["target"], now_ms)
    template = next((hours.messages[language] for hours in closed.values() if hours.messages), None)
    if not template:
        return
    opens = {name: _opens_ms(hours, now_ms) for name, hours in closed.items()}
    first = min(opens, key=lambda each: (opens[each], each))
    adds["closed"] = {"hours": first, "opens_ms": opens[first], "attempt": attempt}
    adds["language"] = language
    pii["closed"] = texts.fill(template, name)


def _closed(policy: Policy, target: Mapping[str, Any], now_ms: int) -> dict[str, Hours]:
    """The hours that are closed for all whom a route names; none if somebody of them is there."""
    targets: list[Mapping[str, Any]] = [target]
    if "fallback" in target:
        targets.append(target["fallback"])
    found: dict[str, Hours] = {}
    while targets:
        target = targets.pop(0)
        name = policy.hours_of(target.get("team"), workspace=target.get("workspace", False))
        if name is None or _is_open(policy.hours[name], now_ms):
            return {}
        outside = policy.hours[name].rules.outside
        if name not in found and outside is not None:
            targets.append(to_builtins(outside))
        found[name] = policy.hours[name]
    return found


def _is_open(hours: Hours, now_ms: int) -> bool:
    return clock(hours.rules, hours.offsets).is_open(now_ms)


def _opens_ms(hours: Hours, now_ms: int) -> int:
    return clock(hours.rules, hours.offsets).standing(now_ms).until_ms

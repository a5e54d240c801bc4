"""What ``/livez`` and ``/readyz`` say, as Kubernetes asks: is the process to be restarted, and may a rollout go on.

A process that stands by is ready: it does all that it can while another has the partitions. Were it not, a rolling
upgrade would wait for ever for a new process that waits for the old one to end.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from consumers.telemetry.readings import Reading
from consumers.telemetry.views import RoleView, Watched


class Health(NamedTuple):
    """An answer: 200 or 503, and why."""

    status: HTTPStatus
    body: dict[str, Any]


_GOOD: Final = frozenset({"ready", "standby"})


def liveness(watched: Watched | None) -> Health:
    """200 while the loop turns (or nobody would answer) and no role has ended with an error."""
    roles = () if watched is None else watched.roles
    failed = {role.name: role.error for role in roles if role.error is not None}
    return _health("failed" if failed else "live", {"live"}, {"failed": failed} if failed else {})


def readiness(watched: Watched | None, reading: Reading | None, stop: asyncio.Event) -> Health:
    """200 while all partitions that this process has are read and the log answers, or while it stands by.

    ``watched`` and ``reading`` are None until the log is open.
    """
    if watched is None or reading is None:
        return _health("stopping" if stop.is_set() else "starting", _GOOD, {"log": "not open yet", "roles": {}})
    roles = {role.name: _role(role) for role in watched.roles}
    states = {role["state"] for role in roles.values()}
    body = {"log": "answers" if reading.log_answers else reading.why_not or "no answer", "roles": roles}
    return _health(_state(states, stopping=stop.is_set(), log_answers=reading.log_answers), _GOOD, body)


def _state(states: set[str], *, stopping: bool, log_answers: bool) -> str:
    """The worst that can be said."""
    for state, holds in (
        ("failed", "failed" in states),
        ("stopping", stopping),
        ("log-unreachable", not log_answers),
        ("starting", "starting" in states),
        ("taking-over", "taking-over" in states),
        ("standby", states <= {"standby"}),
    ):
        if holds:
            return state
    return "ready"


def _role(role: RoleView) -> dict[str, Any]:
    reads = role.reads if role.is_owned else {}
    partitions = {str(number): "ready" if is_read else "taking-over" for number, is_read in sorted(reads.items())}
    return {"state": _role_state(role), "partitions": partitions}


def _role_state(role: RoleView) -> str:
    if role.error is not None:
        return "failed"
    if role.is_owned:
        return "ready" if role.is_ready() else "taking-over"
    return "standby" if role.is_standby else "starting"


def _health(state: str, good: frozenset[str] | set[str], more: dict[str, Any]) -> Health:
    status = HTTPStatus.OK if state in good else HTTPStatus.SERVICE_UNAVAILABLE
    return Health(status, {"status": state, **more})

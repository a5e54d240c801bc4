"""Deadlines: what was there in time comes first, nothing fires early, and a look-up is given its whole length.

Who wrote a record, and when by the true clock, is what the live observer saw.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from events.log import TopicPartition
from tests.simulation.kept import Kept, KeptLog, Line
from tests.simulation.observer import ViolationError
from tests.simulation.oracle_hours import Hours

AGENTS_KINDS: Final = frozenset({"lease", "wrap-up"})
Ends: TypeAlias = dict[tuple[str, str], dict[str, int]]  #: when the times of an agent end; "": what the policy says


class Armed(NamedTuple):
    """A deadline that a record has set."""

    due_ms: int
    length_ms: int


def check_time(kept: Kept) -> None:
    """Every deadline that fired was current, due, and behind all that came in time."""
    for log in kept.logs:
        armed: dict[tuple[str, str, str | None, str], dict[int, Armed]] = {}
        decided_at = _decided_at(log)
        ends: Ends = {}
        hours: dict[str, Hours] = {}
        for number, line in enumerate(log.lines):
            if not line.is_decided:
                continue
            told = line.record.data.get("input")
            if told is not None and told["type"] == "deadline.passed" and told["kind"] in AGENTS_KINDS:
                _check_agents_time(log, line, told, ends)
            elif told is not None and told["type"] == "deadline.passed" and told["kind"] == "hours":
                _check_hours(log, line, told, hours.setdefault(line.record.workspace, Hours()))
            elif told is not None and told["type"] == "deadline.passed" and told["kind"] != "drain":
                scope = (line.record.workspace, line.record.contact, line.record.subject, told["kind"])
                current = armed.get(scope, {})
                if told["seq"] not in current:
                    raise ViolationError(
                        "time", f"{log.place} at {line.stored.offset}: {told} is not current: {current}"
                    )
                deadline = current[told["seq"]]
                if line.record.at_ms < deadline.due_ms:
                    raise ViolationError("time", f"{log.place} at {line.stored.offset}: {told} fires before {deadline}")
                if told["kind"] == "crm":
                    _check_length(kept, log, number, deadline)
                _check_barrier(kept, log, number, deadline, decided_at)
            _arm(log, line, armed)
            _hear(line, ends)
            here = hours.setdefault(line.record.workspace, Hours())
            here.feed(line.record.type, line.record.data, line.record.at_ms, f"{log.place} at {line.stored.offset}")


def _check_agents_time(log: KeptLog, line: Line, told: dict[str, Any], ends: Ends) -> None:
    """An agent's presence lapses, or a room is free again, not before its time, and only if there is such a time."""
    due_ms = ends.get((line.record.workspace, str(line.record.subject)), {}).get(told["kind"])
    if due_ms is None or line.record.at_ms < due_ms:
        where = f"{log.place} at {line.stored.offset}"
        raise ViolationError("time", f"{where}: {told} fires at {line.record.at_ms}, not at {due_ms}")


def _check_hours(log: KeptLog, line: Line, told: dict[str, Any], hours: Hours) -> None:
    """Teams open or close not before their time, and by the deadline that the last record about them has armed."""
    if told["seq"] != hours.seq or hours.due_ms is None or line.record.at_ms < hours.due_ms:
        where = f"{log.place} at {line.stored.offset}"
        raise ViolationError("time", f"{where}: {told} fires, but {hours.seq} has armed one for {hours.due_ms}")


def _hear(line: Line, ends: Ends) -> None:
    """What a record says of the times of agents."""
    record, data = line.record, line.record.data
    config = ends.setdefault((record.workspace, ""), {})
    if record.type == "agents.recorded":
        ttl_ms = data["config"].get("presence_ttl_ms", 0)
        if ttl_ms != config.get("ttl", 0):
            config |= {"ttl": ttl_ms, "from": record.at_ms}
            for (workspace, _), agent in ends.items():
                if workspace == record.workspace and "heard" in agent:
                    agent["lease"] = _lease_end(agent["heard"], config)
    elif record.type == "agent.changed":
        agent = ends.setdefault((record.workspace, str(record.subject)), {})
        if data["what"] in {"presence", "heartbeat"}:
            agent["heard"] = data["time_ms"]
            agent["lease"] = _lease_end(data["time_ms"], config)
        if "wrapping" in data:
            agent.pop("wrap-up", None)
            if data["wrapping"]:
                agent["wrap-up"] = min(data["wrapping"])
    elif "wrap_up_until_ms" in data:
        agent = ends.setdefault((record.workspace, data["agent"]), {})
        agent["wrap-up"] = min(agent.get("wrap-up", data["wrap_up_until_ms"]), data["wrap_up_until_ms"])


def _lease_end(heard_ms: int, config: dict[str, int]) -> int:
    """When a presence lapses; never, if there is no lease: then nothing may fire."""
    ttl_ms = config.get("ttl", 0)
    return max(heard_ms, config.get("from", 0)) + ttl_ms * 5 // 4 if ttl_ms else 2**62


def _arm(log: KeptLog, line: Line, armed: dict[tuple[str, str, str | None, str], dict[int, Armed]]) -> None:
    data, at_ms = line.record.data, line.record.at_ms
    scope = (line.record.workspace, line.record.contact, line.record.subject)
    if line.record.type == "assignment.rerouted":
        return  # it stays where it is
    if data.get("to") is not None:  # it moved on: what it waited for is over
        for kind in ("answer", "crm", "fallback", "wait", "promote", "relax", "offer"):
            armed.pop((*scope, kind), None)
    for kind, due_ms in _deadlines(data).items():
        armed[(*scope, kind)] = {data["seq"]: Armed(due_ms, due_ms - at_ms)}
    told = data.get("input")
    if (
        log.spec.role == "router"
        and told is not None
        and told["type"] not in {"deadline.passed", "crm.answered", "crm.failed"}
    ):
        heard = armed.setdefault((*scope, "forget"), {})
        heard.clear()
        heard[data["seq"]] = Armed(0, 0)  # its length is the policy's; that it is current is what is checked


def _deadlines(data: dict[str, Any]) -> dict[str, int]:
    found = {}
    if "expires_ms" in data.get("reply", {}):
        found["answer"] = data["reply"]["expires_ms"]
    if "lookup" in data:
        found["crm"] = data["lookup"]["deadline_ms"]
    if data.get("to") == "offered":
        found["offer"] = data["until_ms"]
    if data.get("to") == "waiting":
        found |= {kind: due_ms for kind, due_ms in data.get("deadlines", {}).items() if due_ms is not None}
    return found


def _decided_at(log: KeptLog) -> dict[tuple[str, int], int]:
    """The log offset at which each input with a record was decided."""
    found = {}
    for line in log.decided:
        cause = line.record.data["cause"]
        if "input" in line.record.data and cause["topic"] is not None:
            found[(cause["topic"], cause["offset"])] = line.stored.offset
    return found


def _check_length(kept: Kept, log: KeptLog, number: int, deadline: Armed) -> None:
    """A look-up's deadline fires at the earliest its full length after the take-over of who fires it."""
    line = log.lines[number]
    written = kept.observer.written[log.place]
    writer = written[line.stored.offset].process
    skew_ms, started_ms = kept.observer.processes[writer]
    others = [written[before.stored.offset] for before in log.lines[:number]]
    taken_over_ms = max([started_ms, *(other.at_ms for other in others if other.process != writer)])
    earliest_ms = taken_over_ms + skew_ms + deadline.length_ms
    if line.record.at_ms < earliest_ms:
        raise ViolationError(
            "time",
            f"{log.place} at {line.stored.offset}: {writer} fires {earliest_ms - line.record.at_ms} ms too early",
        )


def _check_barrier(
    kept: Kept, log: KeptLog, number: int, deadline: Armed, decided_at: dict[tuple[str, int], int]
) -> None:
    """All inputs that were there before the lane's time could pass the deadline are decided before it.

    That is by its own clock, or by the time of a record, from when that was written on.
    """
    line = log.lines[number]
    written = kept.observer.written[log.place]
    skew_ms, _ = kept.observer.processes[written[line.stored.offset].process]
    passed_ms = deadline.due_ms - skew_ms
    for before in log.lines[:number]:
        left_ms = max(deadline.due_ms - before.record.at_ms, 0)
        passed_ms = min(passed_ms, written[before.stored.offset].at_ms + left_ms)
    positions = next(later.link.progress for later in log.lines[number:] if later.link.progress is not None).positions
    for topic in log.spec.decoders:
        for stored in kept.broker.records(TopicPartition(topic, log.place.partition)):
            if stored.time_ms >= passed_ms:
                break
            after = decided_at.get(
                (topic, stored.offset), line.stored.offset if stored.offset < positions[topic] else None
            )
            if after is None or after > line.stored.offset:
                here = f"{log.place} at {line.stored.offset}"
                raise ViolationError(
                    "time",
                    f"{here}: fires {passed_ms - stored.time_ms} ms after {topic}@{stored.offset} came, but before it",
                )

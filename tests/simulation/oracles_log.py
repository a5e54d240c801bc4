"""Oracles over the log alone: its chain, the chains of its subjects, the table, and that no input has effect twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import orjson

from events.ids import event_id
from routing.steps import ROUTES
from routing.table import table_for
from tests.simulation.kept import Kept, KeptLog, Line
from tests.simulation.observer import ViolationError


def check_chain(kept: Kept) -> None:
    """Every record expected its offset, follows the one before it, and neither time nor progress runs backwards."""
    for log in kept.logs:
        after, at_ms, mark = "", 0, 0
        positions: dict[str, int] = {}
        log_id = log.lines[0].link.log_id
        for stored, record, link in log.lines:
            told = (link.expected_offset, link.log_id, link.after)
            if told != (stored.offset, log_id, after):
                raise ViolationError("chain", f"{log.place} at {stored.offset} says {told}, after {after}")
            if record.at_ms < at_ms:
                raise ViolationError(
                    "chain", f"{log.place} at {stored.offset}: time runs backwards, {record.at_ms} < {at_ms}"
                )
            after, at_ms = record.hash, record.at_ms
            if link.progress is None:
                continue
            if any(offset < positions.get(topic, 0) for topic, offset in link.progress.positions.items()):
                raise ViolationError(
                    "chain", f"{log.place} at {stored.offset}: positions go back: {link.progress}, {positions}"
                )
            if link.progress.mark < mark:
                raise ViolationError("chain", f"{log.place} at {stored.offset}: the mark falls to {link.progress.mark}")
            positions, mark = link.progress.positions, link.progress.mark


def _subject(line: Line) -> tuple[str, str, str | None]:
    return (line.record.workspace, line.record.contact, line.record.subject)


def check_sequence(kept: Kept) -> None:
    """Ids are unique in a log; per subject ``seq`` has no gap and ``prev`` is the record before."""
    for log in kept.logs:
        ids: set[tuple[str, str]] = set()
        last: dict[Hashable, tuple[int, str | None]] = {}
        for line in log.lines:
            told = orjson.loads(line.stored.value or b"")
            name = (told["source"], told["id"])
            if name in ids:
                raise ViolationError("sequence", f"{log.place} at {line.stored.offset}: the id {name} was there before")
            ids.add(name)
            if not line.is_decided:
                continue
            data = line.record.data
            seq, prev = last.get(_subject(line), (0, None))
            if (data["seq"], data["prev"]) != (seq + 1, prev):
                raise ViolationError(
                    "sequence",
                    f"{log.place} at {line.stored.offset}: {data['seq']} {data['prev']} follows {seq} {prev}",
                )
            if told["id"] != event_id(line.record.contact, line.record.subject, data["seq"], 0):
                raise ViolationError(
                    "sequence", f"{log.place} at {line.stored.offset}: the id {told['id']} is not its place"
                )
            last[_subject(line)] = (data["seq"], line.record.hash)


def check_transitions(kept: Kept) -> None:
    """Conversations move as the table allows and from where they were; those that wait for owners do likewise."""
    for log in kept.logs:
        states: dict[Hashable, str | None] = {}
        for line in log.decided:
            data = line.record.data
            if "to" not in data or not line.record.contact:
                continue
            before = states.get(_subject(line))
            routed = log.spec.role == "router"
            if not (_allowed_route(log, line, before) if routed else _allowed_owner(line, before)):
                step = f"{data.get('from')} -> {data['to']}"
                raise ViolationError(
                    "transitions", f"{log.place} at {line.stored.offset}: {line.record.type} {step}, was {before}"
                )
            states[_subject(line)] = data["to"]


def _allowed_route(log: KeptLog, line: Line, before: str | None) -> bool:
    data = line.record.data
    if line.record.type == "input.ignored":  # the trigger does not take it: there is no conversation
        return data["to"] == "closed" and before in {None, "closed"}
    if data["from"] != before and not (data["from"] == "opened" and before in {None, "closed"}):
        return False
    table = table_for(log.policies[data["policy"]].email.retries)
    return table.allows(data["from"], data["to"]) and (
        data["to"] in ROUTES or "request" not in data or data["to"] == "closed"
    )


OWNER_STEPS = {
    "assignment.queued": {("new", "waiting"), ("ended", "waiting"), ("not-routed", "waiting"), ("waiting", "waiting")},
    "assignment.offered": {(status, "offered") for status in ("new", "ended", "not-routed", "waiting")},
    "assignment.made": {
        (status, "assigned") for status in ("new", "ended", "not-routed", "waiting", "offered", "assigned")
    },
    "assignment.rerouted": {("assigned", "assigned"), ("offered", "offered")},
    "assignment.released": {
        ("assigned", "waiting"),
        ("assigned", "ended"),
        ("offered", "waiting"),
        ("offered", "ended"),
        ("waiting", "ended"),
    },
    "assignment.not-routed": {("new", "not-routed"), ("ended", "not-routed")},
}


def _allowed_owner(line: Line, before: str | None) -> bool:
    data = line.record.data
    return data["from"] == (before or "new") and (data["from"], data["to"]) in OWNER_STEPS[line.record.type]


def check_effects(kept: Kept) -> None:
    """An input has effect once, however often and wherever it was delivered; a message counts as invalid once."""
    for log in kept.logs:
        seen: dict[Hashable, int] = {}
        asked: dict[Hashable, str] = {}
        for line in log.decided:
            told = line.record.data.get("input", {})
            answers = told.get("lookup_id") if line.record.type in {"crm.resolved", "crm.unresolved"} else None
            if answers is not None and answers != asked[_subject(line)]:
                raise ViolationError("effects", f"{log.place} at {line.stored.offset}: an answer to {answers} counts")
            if "lookup" in line.record.data:
                asked[_subject(line)] = line.record.data["lookup"]["id"]
            for key in _effects(line):
                if key in seen:
                    raise ViolationError(
                        "effects", f"{log.place} at {line.stored.offset}: {key} had effect at {seen[key]}"
                    )
                seen[key] = line.stored.offset


def _effects(line: Line) -> list[Hashable]:
    data = line.record.data
    told: dict[str, Any] | None = data.get("input")
    if told is None or line.record.type == "input.ignored" or told["type"] == "agents.configured":
        return []
    workspace, contact, subject = _subject(line)
    scope = subject if told["type"] in {"deadline.passed", "assignment.requested"} or not contact else None
    keys: list[Hashable] = [(workspace, contact, scope, told["source"], data["cause"]["id"])]
    if told["type"] == "deadline.passed" and line.record.data["cause"]["id"].startswith("deadline/drain"):
        return []
    if line.record.type == "email.rejected" and "message_id" in told:
        keys.append((workspace, contact, subject, "message", told["message_id"]))
    if told["type"] in {"crm.answered", "crm.failed"}:
        keys.append((workspace, contact, subject, "lookup", told["lookup_id"]))
    return keys

"""Fairness counted anew, slowly and obviously: every question is answered by looking at all records again.

Who could have been given something is asked of the real state, folded up to each record: its own pools say it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from routing.decider import LogRecord
from routing.strategies import PoolKey
from routing.workspaces import Workspaces
from tests.workspace_given import as_read_back

Name = tuple[str, str]  #: pool and strategy
SHARED = {"round-robin", "least-open", "longest-idle"}


class Recount(NamedTuple):
    """What became of one pool in one period."""

    given: Counter[str]
    waits: dict[str, list[int]]  #: by class, in order of length
    to_fallback: int
    escalated: int
    waiting: Counter[str]
    waiting_longest_ms: int | None


def needs(record: LogRecord, target: dict[str, Any]) -> str:
    if record.data.get("relaxed"):
        return ""
    speaks = [f"language={record.data['language']}"] if target.get("match_language") else []
    return "".join(f"/{need}" for need in [*speaks, *sorted(set(target.get("skills", ())))])


def asked(record: LogRecord) -> Name:
    """Where the conversation's own target lets it wait."""
    return _name(record, record.data["target"], None)


def _name(record: LogRecord, target: dict[str, Any], strategy: str | None) -> Name:
    if target.get("agent") is not None:
        return ("dedicated", "dedicated")
    where = "workspace" if target.get("team") is None else f"team/{target['team']}"
    return (where + needs(record, target), strategy or target.get("strategy", "round-robin"))


def chosen(records: Sequence[LogRecord], index: int) -> tuple[Name, bool]:
    """What an agent was chosen from, and whether that is the fallback; who accepts was chosen when he was asked."""
    record = records[index]
    data = record.data
    if data["reason"] == "accepted":
        offers = [
            each for each in range(index)
            if records[each].type == "assignment.offered" and _subject(records[each]) == _subject(record)
        ]  # fmt: skip
        return chosen(records, offers[-1])
    if data["strategy"] in {"by-hand", "joined", "dedicated"}:
        return (data["strategy"].replace("-", " "), data["strategy"]), data["reason"] == "fallback"
    if data.get("turn") is not None:
        return (data["turn"]["pool"], "round-robin"), data["reason"] == "fallback"
    target = data["target"]
    if data["reason"] == "fallback":
        target = target["fallback"]
    if data["strategy"] == "sticky" and (target.get("agent") or target.get("team") != data["team"]):
        target = target["fallback"]
    return _name(record, target, data["strategy"]), data["reason"] == "fallback"


def _subject(record: LogRecord) -> tuple[str, str | None]:
    return record.contact, record.subject


def began_to_wait(records: Sequence[LogRecord], index: int) -> int:
    """When the wait began that the record ends: at the first one since it had an owner, or was over."""
    began_ms = records[index].at_ms
    for record in reversed(records[:index]):
        if _subject(record) == _subject(records[index]) and "to" in record.data:
            if record.data["to"] not in {"waiting", "offered"}:
                break
            began_ms = record.at_ms
    return began_ms


def recount(records: Sequence[LogRecord], from_ms: int, until_ms: int) -> dict[Name, Recount]:
    """All pools in which anything was, from (included) until (excluded)."""
    found: dict[Name, Recount] = {}

    def of(name: Name) -> Recount:
        return found.setdefault(name, Recount(Counter(), {}, 0, 0, Counter(), None))

    for index, record in enumerate(records):
        if record.type.startswith("assignment.") and from_ms <= record.at_ms < until_ms:
            _count(records, index, of, found)
    moves = [index for index, record in enumerate(records) if record.at_ms < until_ms and _is_move(record)]
    last = {_subject(records[index]): index for index in moves}
    for index in last.values():
        record = records[index]
        if record.data["to"] in {"waiting", "offered"}:
            name = asked(record)
            before = of(name)
            waited_ms = until_ms - began_to_wait([*records[: index + 1], record], index + 1)
            before.waiting[record.data["route"]] += 1
            found[name] = before._replace(waiting_longest_ms=max(before.waiting_longest_ms or 0, waited_ms))
    return found


def _is_move(record: LogRecord) -> bool:
    return record.type.startswith("assignment.")


def _count(records: Sequence[LogRecord], index: int, of: Any, found: dict[Name, Recount]) -> None:
    record = records[index]
    before = [each for each in records[:index] if _subject(each) == _subject(record) and _is_move(each)]
    routed = [each for each in before if each.data.get("target") is not None]
    is_over = not before or before[-1].data["to"] in {"ended", "not-routed"}
    if record.data.get("route_reason") == "waited" and routed and not is_over:
        last = routed[-1]
        if last.data["route_reason"] != "waited" and record.data.get("target") is not None:
            name = asked(last)
            found[name] = of(name)._replace(escalated=of(name).escalated + 1)
    if record.type != "assignment.made":
        return
    name, is_fallback = chosen(records, index)
    of(name).given[record.data["agent"]] += 1
    if is_fallback and record.data.get("target") is not None:
        home = asked(record)
        found[home] = of(home)._replace(to_fallback=of(home).to_fallback + 1)
    if record.data["from"] != "assigned" and record.data["route"] is not None:
        waits = of(name).waits.setdefault(record.data["route"], [])
        waits.append(record.at_ms - began_to_wait(records, index))
        waits.sort()


def free_after(records: Sequence[LogRecord], key: PoolKey) -> list[tuple[int, frozenset[str]]]:
    """Who was free in a pool from the time of each record on: asked of the real pools after every record."""
    state = Workspaces()
    free: list[tuple[int, frozenset[str]]] = []
    for record in records:
        state.evolve(as_read_back(record))
        state.confirm()
        free.append((record.at_ms, frozenset(state.state.desk(record.workspace).pools.of(key).free)))
    return free


def free_time(free: Sequence[tuple[int, frozenset[str]]], from_ms: int, until_ms: int) -> Counter[str]:
    """How long each agent was free, milliseconds."""
    spent: Counter[str] = Counter()
    for (at_ms, agents), then_ms in zip(free, [*(at_ms for at_ms, _ in free[1:]), until_ms], strict=True):
        duration_ms = min(then_ms, until_ms) - max(at_ms, from_ms)
        if duration_ms > 0:
            spent.update(dict.fromkeys(agents, duration_ms))
    return spent

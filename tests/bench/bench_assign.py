"""What an assignment costs beside the bare loop: ``python -m tests.bench.bench_assign`` prints tables.

A desk of fifty agents with room for everybody; each conversation is asked for, and ends. Bare is what ``bench_decide``
has: parse the input, look up, write and hash the record. Then the same with more agents and many who wait, to see what
grows; and the memory of a conversation that has an owner, as ``tracemalloc`` counts it.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from consumers.policy_book import LanePolicies, PolicyBook
from consumers.runtime import tune_garbage_collection
from consumers.specs import ASSIGNER
from events.cloudevents import envelope
from events.log import StoredRecord
from events.outputs import Origin
from events.records import Moment, decided, parse
from events.topics import AGENT_EVENTS, ASSIGNMENT_REQUESTS, ASSIGNMENTS_LOG
from routing.decider import Decision
from routing.inputs import Event
from routing.workspaces import Workspaces
from tests.bench.bench_decide import bare
from tests.bench.workload import bench_policy

BATCH = 200
NOW_MS = 1_795_341_610_000
ORIGIN = Origin(topic=ASSIGNMENTS_LOG, partition=0, log_id="bench", contact_partitions=1, workspace_partitions=1)
STAGES = ("decode", "decide", "encode", "evolve", "outputs", "confirm")
MEASURED = ("decide", "encode", "evolve")
STRATEGIES = ("round-robin", "least-open")
ESCALATION = {
    "agent": "maya",
    "fallback": {"team": "managers", "strategy": "least-open"},
    "fallback_after_ms": 0,
    "wait_max_ms": 3_600_000,
}


def _stored(topic: str, offset: int, type: str, subject: str, key: str, data: dict[str, Any]) -> StoredRecord:
    value = envelope(
        id=f"{key}/{subject}/{offset}/1", source="/vip-router/default/routing", type=type, subject=subject,
        time_ms=NOW_MS, partitionkey="default", workspace="default", data=data,
    )  # fmt: skip
    return StoredRecord(topic, 0, offset, b"default", value, (), NOW_MS)


def requests(numbers: range, strategy: str, *, ends: bool = True) -> list[StoredRecord]:
    """Each conversation is asked for; with ``ends`` then each ends, in the same order."""
    return [*_asked(numbers, strategy), *(_ended(numbers) if ends else ())]


def _asked(numbers: range, strategy: str) -> Iterator[StoredRecord]:
    said = {
        "route": "regular",
        "route_reason": "not-vip",
        "target": {"team": "support", "strategy": strategy, "wait_max_ms": 604_800_000},
        "escalation": ESCALATION,
        "policy": "sha256:2f078aa29bdf5eb7",
    }
    return (_request("assignment.requested", number, 4, said) for number in numbers)


def _ended(numbers: range) -> Iterator[StoredRecord]:
    return (_request("assignment.ended", number, 5, {"reason": "closed"}) for number in numbers)


def _request(type: str, number: int, seq: int, said: dict[str, Any]) -> StoredRecord:
    offset = number + (seq - 4) * 1_000_000
    place = {"id": "0123456789abcdef0123456789abcdef", "partition": 0, "offset": offset}
    data = {
        "contact": {"id": f"contact-{number:07}"}, "channel": {"type": "whatsapp", "id": "15550001"},
        "language": "fr", "run": 1, "seq": seq, "n": 1, "log": place, **said,
    }  # fmt: skip
    return _stored(ASSIGNMENT_REQUESTS, offset, type, f"conversation-{number:07}", f"contact-{number:07}", data)


class Desk:
    """An assigner's state that is told inputs as its lane would, with the seconds of each stage."""

    def __init__(self, agents: int, room: int) -> None:
        self.state = Workspaces()
        self.spent = dict.fromkeys(STAGES, 0.0)
        self.made: list[bytes] = []
        self._records = 0
        self._policies = LanePolicies(PolicyBook({"default": bench_policy()}))
        self._now = Moment.at(NOW_MS)
        data = {"teams": ["support"], "max_open": room, "email": "agent@example.com", "name": "An Agent"}
        self.tell([_stored(AGENT_EVENTS, n, "agent.updated", f"agent-{n:04}", "default", data) for n in range(agents)])

    def tell(self, records: list[StoredRecord]) -> dict[str, float]:
        """Microseconds of each stage for one record made of these inputs."""
        self.spent = dict.fromkeys(STAGES, 0.0)
        self.made = []
        clock = time.thread_time
        for number, record in enumerate(records, 1):
            began_s = clock()
            event = ASSIGNER.decoders[record.topic](record)
            decoded_s = clock()
            decision = self.state.decide(self.state.read(event, self._policies), self._policies, NOW_MS)
            self.spent["decode"] += decoded_s - began_s
            self.spent["decide"] += clock() - decoded_s
            self._store(event, decision)
            if number % BATCH == 0 or number == len(records):
                began_s = clock()
                self.state.confirm()
                self.spent["confirm"] += clock() - began_s
        return {stage: seconds / len(self.made) * 1e6 for stage, seconds in self.spent.items()}

    def _store(self, event: Event, decision: Decision | None) -> None:
        clock, first = time.thread_time, True
        while decision is not None:
            t0 = clock()
            built = decided(
                ASSIGNMENTS_LOG, decision, event, self._now, first=first, offset=self._records, policy_offset=None
            )
            t1 = clock()
            self.state.evolve(built.record)
            t2 = clock()
            ASSIGNER.outputs(built.record, ORIGIN)
            t3 = clock()
            more = decision.more
            decision = self.state.follow_up(event, self._policies, NOW_MS) if more else None
            t4 = clock()
            self.made.append(built.value)
            self._records += 1
            first = False
            spent = zip(("encode", "evolve", "outputs", "decide"), (t1 - t0, t2 - t1, t3 - t2, t4 - t3), strict=True)
            for stage, seconds in spent:
                self.spent[stage] += seconds


def measured(told: list[StoredRecord], desk: Desk) -> dict[str, float]:
    """Microseconds for one record, stage by stage, beside the bare loop."""
    gc.collect()
    spent = desk.tell(told)
    made = desk.made[: len(told)]
    spent["bare"] = bare(told[: len(made)], made)
    spent["decide + encode + evolve"] = sum(spent[stage] for stage in MEASURED)
    spent["ratio"] = spent["decide + encode + evolve"] / spent["bare"]
    spent["bytes"] = statistics.mean(map(len, desk.made))
    return spent


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure the median of the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def one_desk(conversations: int, rounds: int, agents: int = 50) -> None:
    """Both strategies in turn, and what was asked for apart from what ended."""
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for strategy in STRATEGIES:
            desk = Desk(agents, conversations)
            records = requests(range(conversations), strategy)
            for what, told in (("asked", records[:conversations]), ("ended", records[conversations:])):
                found.setdefault((strategy, what), []).append(measured(told, desk))
    figures = {name: medians(runs) for name, runs in found.items()}
    rows = [
        (stage, *(f"{figure[stage]:.1f}" for figure in figures.values()))
        for stage in (*STAGES, "decide + encode + evolve", "bare", "bytes", "ratio")
    ]
    columns = ["microseconds a record", *(f"{strategy}: {what}" for strategy, what in figures)]
    print_rows(f"An assignment on one core, {agents} agents", columns, rows)


def growth(conversations: int, rounds: int) -> None:
    """What one more costs with few and many agents, when nobody and when many wait."""
    rows: list[tuple[str, ...]] = []
    for agents in (10, 100, 2_000):
        for waiting in (0, 20_000):
            for strategy in STRATEGIES:
                runs = [_grown(agents, waiting, strategy, conversations) for _ in range(rounds)]
                figure = medians(runs)
                what = f"{agents:,} agents, {waiting:,} waiting, {strategy}"
                stages = (f"{figure[stage]:.1f}" for stage in (*MEASURED, "bare", "ratio"))
                rows.append((what, *stages))
    print_rows("What grows: microseconds a record", ("", *MEASURED, "bare", "ratio"), rows)


def _grown(agents: int, waiting: int, strategy: str, conversations: int) -> dict[str, float]:
    """Nobody waits: conversations are given. Many wait: conversations end, and each end serves one of them."""
    if not waiting:
        return measured(requests(range(conversations), strategy, ends=False), Desk(agents, conversations))
    room = -(-conversations // agents)
    desk = Desk(agents, room)
    desk.tell(requests(range(room * agents + waiting), strategy, ends=False))
    return measured(list(_ended(range(conversations))), desk)


def memory(conversations: int) -> None:
    """Bytes of each conversation that waits, that has an owner, and that has ended: as decided, and as read back."""
    rows: list[tuple[str, ...]] = []
    for what, room, ends in (("waits", 0, False), ("has an owner", conversations, False), ("has ended", 1, True)):
        told = requests(range(conversations), "round-robin", ends=ends)
        desk = Desk(50, room)
        live = _bytes_kept(lambda desk=desk, told=told: desk.tell(told), desk)  # type: ignore[misc]
        values, desk = desk.made, Desk(50, room)
        folded = _bytes_kept(lambda desk=desk, values=values: _fold(desk.state, values), desk)  # type: ignore[misc]
        rows.append((what, *(f"{size / conversations:,.0f}" for size in (live, folded))))
    print_rows("Memory of a conversation: bytes", ("", "decided", "read back"), rows)


def _bytes_kept(act: Callable[[], object], desk: Desk) -> int:
    """Bytes that the desk's state holds more after the act than before."""
    gc.collect()
    tracemalloc.start()
    act()
    made, desk.made = desk.made, []
    size_bytes = sum(map(sys.getsizeof, made))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    desk.made = made
    return held - size_bytes


def _fold(state: Workspaces, values: list[bytes]) -> None:
    for offset, value in enumerate(values, 50):
        state.evolve(parse(StoredRecord(ASSIGNMENTS_LOG, 0, offset, None, value, (), NOW_MS)))
    state.confirm()


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print to standard output."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def main(conversations: int = 2_000, rounds: int = 7) -> None:
    """Measure and print."""
    tune_garbage_collection()
    one_desk(conversations, rounds)
    growth(conversations // 2, max(1, rounds // 3))
    memory(conversations)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

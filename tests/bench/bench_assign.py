"""What an assignment costs beside the bare loop: ``python -m tests.bench.bench_assign`` prints tables.

A desk of fifty agents with room for everybody; each conversation is asked for, and ends. Bare is what ``bench_decide``
has: parse the input, look up, write and hash the record. Then the same with more agents and many who wait, to see what
grows; and the memory of a conversation, as ``tracemalloc`` counts it.

The stages are timed with the one clock that needs no system call: on some machines whatever runs after a system call
is three times slower. For the same reason the records are not kept while the clock runs.
"""

from __future__ import annotations

import gc
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from typing import Any

import orjson
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
from routing.workspaces import Workspaces
from tests.bench.workload import bench_policy

BATCH = 200
NOW_MS = 1_795_341_610_000
ORIGIN = Origin(topic=ASSIGNMENTS_LOG, partition=0, log_id="bench", contact_partitions=1, workspace_partitions=1)
STAGES = ("decode", "decide", "encode", "evolve", "outputs", "confirm")
MEASURED = ("decide", "encode", "evolve")
STRATEGIES = ("round-robin", "least-open", "longest-idle")
ESCALATION = {
    "agent": "maya",
    "fallback": {"team": "managers", "strategy": "least-open"},
    "fallback_after_ms": 0,
    "wait_max_ms": 3_600_000,
}


def _stored(topic: str, offset: int, type: str, subject: str, data: dict[str, Any]) -> StoredRecord:
    value = envelope(
        id=f"contact/{subject}/{offset}/1", source="/vip-router/default/routing", type=type, subject=subject,
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
    offset = abs(number) + (seq - 4) * 1_000_000
    place = {"id": "0123456789abcdef0123456789abcdef", "partition": int(number < 0), "offset": offset}
    data = {
        "contact": {"id": f"contact-{number:07}"}, "channel": {"type": "whatsapp", "id": "15550001"},
        "language": "fr", "run": 1, "seq": seq, "n": 1, "log": place, **said,
    }  # fmt: skip
    return _stored(ASSIGNMENT_REQUESTS, offset, type, f"conversation-{number:07}", data)


class Desk:
    """An assigner's state that is told inputs as its lane would tell it; ``told`` at once, after one that ended."""

    def __init__(self, agents: int, room: int, strategy: str, told: Sequence[StoredRecord] = ()) -> None:
        self.state = Workspaces()
        self._records = 0
        self._policies = LanePolicies(PolicyBook({"default": bench_policy()}))
        self._now = Moment.at(NOW_MS)
        self._configure()
        data = {"teams": ["support"], "max_open": room, "email": "agent@example.com", "name": "An Agent"}
        self.tell([_stored(AGENT_EVENTS, n, "agent.updated", f"agent-{n:04}", data) for n in range(agents)])
        self.tell([*requests(range(-1, 0), strategy), *told])

    def _configure(self) -> None:
        """Take what the policy says of agents: today's rules."""
        assert ASSIGNER.configure is not None
        event = ASSIGNER.configure("default", bench_policy())
        decision = self.state.decide(event, self._policies, NOW_MS)
        assert decision is not None
        built = decided(ASSIGNMENTS_LOG, decision, event, self._now, first=True, offset=0, policy_offset=None)
        self.state.evolve(built.record)
        self._records += 1

    def tell(self, records: list[StoredRecord]) -> list[bytes]:
        """The records that the inputs lead to."""
        made: list[bytes] = []
        self.run(records, made.append)
        return made

    def run(self, records: list[StoredRecord], keep: Callable[[bytes], object]) -> dict[str, float]:
        """Seconds of each stage, and how many ``records`` were made."""
        clock = time.perf_counter
        state, policies = self.state, self._policies
        decode_s = decide_s = encode_s = evolve_s = outputs_s = confirm_s = 0.0
        before = self._records
        for number, record in enumerate(records, 1):
            came_s = clock()
            event = ASSIGNER.decoders[record.topic](record)
            began_s = clock()
            decode_s += began_s - came_s
            decision = state.decide(state.read(event, policies), policies, NOW_MS)
            first = True
            while decision is not None:
                decided_s = clock()
                built = decided(
                    ASSIGNMENTS_LOG, decision, event, self._now, first=first, offset=self._records, policy_offset=None
                )
                encoded_s = clock()
                state.evolve(built.record)
                evolved_s = clock()
                ASSIGNER.outputs(built.record, ORIGIN)
                decide_s += decided_s - began_s
                encode_s += encoded_s - decided_s
                evolve_s += evolved_s - encoded_s
                began_s = clock()
                outputs_s += began_s - evolved_s
                keep(built.value)
                self._records += 1
                first = False
                decision = state.follow_up(event, policies, NOW_MS) if decision.more else None
            decide_s += clock() - began_s
            if number % BATCH == 0 or number == len(records):
                began_s = clock()
                state.confirm()
                confirm_s += clock() - began_s
        spent_s = (decode_s, decide_s, encode_s, evolve_s, outputs_s, confirm_s)
        return dict(zip(STAGES, spent_s, strict=True)) | {"records": self._records - before}


def measured(told: list[StoredRecord], desk: Callable[[], Desk]) -> dict[str, float]:
    """Microseconds for one record, stage by stage, beside the bare loop. ``desk`` makes the same desk each time."""
    made = desk().tell(told)
    bytes_each = statistics.mean(map(len, made))
    fresh = desk()
    gc.collect()
    spent_s = fresh.run(told, len)
    spent = {stage: spent_s[stage] / spent_s["records"] * 1e6 for stage in STAGES}
    spent["bare"] = bare(told, made)
    spent["decide + encode + evolve"] = sum(spent[stage] for stage in MEASURED)
    spent["ratio"] = spent["decide + encode + evolve"] / spent["bare"]
    return spent | {"bytes": bytes_each}


def bare(told: list[StoredRecord], made: list[bytes]) -> float:
    """Microseconds of the bare loop for one record: each was just made when it is written, as in a lane."""
    clock = time.perf_counter
    table = {"assignment.requested": 1}
    spent_s = 0.0
    for record, value in zip(told, made, strict=False):
        data = orjson.loads(value)
        began_s = clock()
        table.get(orjson.loads(record.value or b"")["type"])
        sha256(orjson.dumps(data)).hexdigest()
        spent_s += clock() - began_s
    return spent_s / min(len(told), len(made)) * 1e6


def decisions(conversations: int, rounds: int) -> None:
    """Decisions a second of one lane's core, with what is written; and those of the bare loop in the same run.

    At 500 conversations the large desk has 5,000 agents and 100,000 who wait.
    """
    rows: list[tuple[str, ...]] = []
    for agents, waiting in ((50, 0), (10 * conversations, 200 * conversations)):
        for strategy in STRATEGIES:
            figure = medians([_grown(agents, waiting, strategy, conversations) for _ in range(rounds)])
            each_us, decide_us = figure["decide + encode + evolve"], figure["decide"] + figure["evolve"]
            rates = (f"{1e6 / value:,.0f}" for value in (decide_us, each_us, figure["bare"]))
            rows.append((f"{agents:,} agents, {waiting:,} waiting, {strategy}", *rates, f"{figure['ratio']:.1f}"))
    columns = ("", "decided and folded", "... and written", "bare loop", "ratio")
    print_rows("Decisions a second on one core", columns, rows)


def medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Of each figure the median of the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def one_desk(conversations: int, rounds: int, agents: int = 50) -> None:
    """Both strategies in turn, and what was asked for apart from what ended."""
    ended = list(_ended(range(conversations)))
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(rounds):
        for strategy in STRATEGIES:
            told = requests(range(conversations), strategy, ends=False)
            one = measured(told, partial(Desk, agents, conversations, strategy))
            other = measured(ended, partial(Desk, agents, conversations, strategy, told))
            found.setdefault(f"{strategy}: asked", []).append(one)
            found.setdefault(f"{strategy}: ended", []).append(other)
            found.setdefault(f"{strategy}: both", []).append(_both(one, other))
    figures = {name: medians(runs) for name, runs in found.items()}
    rows = [
        (name, *(f"{figure[name]:.1f}" for figure in figures.values()))
        for name in (*STAGES, "decide + encode + evolve", "bare", "ratio", "bytes")
    ]
    print_rows(f"An assignment on one core, {agents} agents: microseconds a record", ("", *figures), rows)


def _both(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    mean = {name: (one[name] + other[name]) / 2 for name in one}
    return mean | {"ratio": mean["decide + encode + evolve"] / mean["bare"]}


def growth(conversations: int, rounds: int) -> None:
    """What one more costs with few and many agents, when nobody and when many wait."""
    rows: list[tuple[str, ...]] = []
    for agents in (10, 100, 1_000, 20 * conversations):
        for waiting in (0, 40 * conversations):
            for strategy in STRATEGIES:
                figure = medians([_grown(agents, waiting, strategy, conversations) for _ in range(rounds)])
                what = f"{agents:,} agents, {waiting:,} waiting, {strategy}"
                rows.append((what, *(f"{figure[name]:.1f}" for name in (*MEASURED, "bare", "ratio"))))
    print_rows("What grows: microseconds a record", ("", *MEASURED, "bare", "ratio"), rows)


def _grown(agents: int, waiting: int, strategy: str, conversations: int) -> dict[str, float]:
    """Nobody waits: conversations are given. Many wait: conversations end, and each end serves one of them."""
    if not waiting:
        told = requests(range(conversations), strategy, ends=False)
        return measured(told, partial(Desk, agents, conversations, strategy))
    room = -(-conversations // agents)
    told = requests(range(room * agents + waiting), strategy, ends=False)
    return measured(list(_ended(range(conversations))), partial(Desk, agents, room, strategy, told))


def memory(conversations: int) -> None:
    """Bytes of each conversation that waits, that has an owner, and that has ended: as decided, and as read back."""
    rows: list[tuple[str, ...]] = []
    for what, room, ends in (("waits", 0, False), ("has an owner", conversations, False), ("has ended", 1, True)):
        told = requests(range(conversations), "round-robin", ends=ends)
        desks = [Desk(50, room, "round-robin") for _ in range(3)]
        values = desks[0].tell(told)
        held = (_kept_live(desks[1], told), _kept_folded(desks[2], values))
        rows.append((what, *(f"{size / conversations:,.0f}" for size in held)))
    print_rows("Memory of a conversation: bytes", ("", "decided", "read back"), rows)


def _kept_live(desk: Desk, told: list[StoredRecord]) -> int:
    """Bytes that the state holds more after it was told: the caches for a bounded number of names included."""
    with _counted() as held:
        desk.run(told, len)
    return held[0]


def _kept_folded(desk: Desk, values: list[bytes]) -> int:
    """Bytes that the state holds more after a fold of these records."""
    with _counted() as held:
        for offset, value in enumerate(values, 50):
            desk.state.evolve(parse(StoredRecord(ASSIGNMENTS_LOG, 0, offset, None, value, (), NOW_MS)))
        desk.state.confirm()
    return held[0]


@contextmanager
def _counted() -> Iterator[list[int]]:
    held: list[int] = []
    gc.collect()
    tracemalloc.start()
    yield held
    gc.collect()
    held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()


def print_rows(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print to standard output."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=140).print(table)


def main(conversations: int = 500, rounds: int = 15) -> None:
    """Measure and print."""
    tune_garbage_collection()
    one_desk(conversations, rounds)
    decisions(conversations, max(1, rounds // 15))
    growth(conversations, max(1, rounds // 5))
    memory(4 * conversations)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

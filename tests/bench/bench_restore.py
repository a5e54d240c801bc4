"""How long a workspace with a past takes to come back: ``python -m tests.bench.bench_restore 1000000`` prints a table.

The log is made by the assigner's decider itself, on one SQLite file: each conversation is asked for, given to one of
fifty agents, and ends. Then its lane's state is restored from the first record on, and from the snapshots that a lane
would have written meanwhile; both must be the state that was left. Bare reads, parses and hashes the same records.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from consumers.lane_spec import LaneLimits
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import READ_RECORDS, Tail, ensure_genesis, fold
from consumers.runtime import tune_garbage_collection
from consumers.snapshots import Snapshots
from consumers.specs import ASSIGNER
from events.chain import Entry, Progress, seal
from events.log import Log, TopicPartition
from events.open_log import open_log
from events.records import Moment, decided
from events.topics import AGENT_EVENTS, ASSIGNMENT_REQUESTS, ASSIGNMENTS_LOG, partition_counts
from routing.decider import LaneState
from routing.inputs import (
    AgentUpdated,
    AssignmentEnded,
    AssignmentRequested,
    Cause,
    Channel,
    Event,
    Origin,
    RouteTarget,
    WorkspaceBody,
)
from routing.workspaces import Workspaces
from tests.bench.bench_assign import NOW_MS, print_rows
from tests.bench.workload import bench_policy

PLACE: Final = TopicPartition(ASSIGNMENTS_LOG, 0)
BATCH: Final = 500
OPEN: Final = 1_000  #: conversations that are open at a time
SUPPORT: Final = RouteTarget(team="support", strategy="least-open", wait_max_ms=604_800_000)


class Past(NamedTuple):
    """A log, and the state that its writer had at its end."""

    state: Workspaces
    tail: Tail
    bytes_each: float


class Restored(NamedTuple):
    """One restore."""

    state: LaneState
    folded: int  #: records
    spent_s: float


def inputs(conversations: int, agents: int) -> Iterator[Event]:
    """The agents, then conversations that are asked for and end, the last of them too."""
    said = AgentUpdated(teams=("support",), max_open=-(-2 * OPEN // agents), name="An Agent")
    for number in range(agents):
        cause = Cause(topic=AGENT_EVENTS, partition=0, offset=number, id=f"agent-{number}")
        yield _event("", f"agent-{number:03}", cause, said, None)
    offset = 0
    for first in range(0, conversations, OPEN):
        numbers = range(first, min(first + OPEN, conversations))
        for body in (_asked(), AssignmentEnded(reason="closed")):
            for number in numbers:
                offset += 1
                yield _request(number, offset, body)


def _asked() -> AssignmentRequested:
    return AssignmentRequested(
        route="regular",
        route_reason="not-vip",
        target=SUPPORT,
        policy="sha256:2f078aa29bdf5eb7",
        language="fr",
        channel=Channel(id="15550001", type="whatsapp"),
    )


def _request(number: int, offset: int, body: WorkspaceBody) -> Event:
    cause = Cause(topic=ASSIGNMENT_REQUESTS, partition=0, offset=offset, id=f"{number}/{offset}/1")
    origin = Origin(log_id="0123456789abcdef", partition=0, offset=offset, n=1, run=1)
    return _event(f"contact-{number:07}", f"conversation-{number:07}", cause, body, origin)


def _event(contact: str, subject: str | None, cause: Cause, body: WorkspaceBody, origin: Origin | None) -> Event:
    return Event(
        workspace="default",
        contact=contact,
        conversation=subject,
        source="/vip-router/default/routing",
        time_ms=NOW_MS,
        cause=cause,
        body=body,
        origin=origin,
    )


class Writer:
    """Decides and appends as a lane does, batch by batch, with its snapshots."""

    def __init__(self, log: Log, log_id: str) -> None:
        self.state = Workspaces()
        self.tail = Tail(log_id=log_id)
        self.policies = LanePolicies(PolicyBook({"default": bench_policy()}))
        self.bytes = 0
        self._log = log
        self._now = Moment.at(NOW_MS)
        self._entries: list[Entry] = []
        self._snapshots = Snapshots(log, ASSIGNER, 0)

    async def write(self, events: Iterator[Event]) -> None:
        """Everything that these inputs lead to."""
        await fold(self._log, PLACE, self.state, self.tail, self.policies)
        assert ASSIGNER.configure is not None
        self._decide(ASSIGNER.configure("default", bench_policy()))
        for event in events:
            self._decide(event)
            if len(self._entries) >= BATCH:
                await self._append()
        await self._append()

    def _decide(self, event: Event) -> None:
        state, policies = self.state, self.policies
        decision = state.decide(event, policies, NOW_MS)
        first = True
        while decision is not None:
            built = decided(
                ASSIGNMENTS_LOG,
                decision,
                event,
                self._now,
                first=first,
                offset=self.tail.end + len(self._entries),
                policy_offset=None,
            )
            key = (decision.contact or event.workspace).encode()
            self._entries.append(Entry(key, built.value, built.record.hash))
            self.bytes += len(built.value)
            state.evolve(built.record)
            first = False
            decision = state.follow_up(event, policies, NOW_MS) if decision.more else None

    async def _append(self) -> None:
        entries, self._entries, tail = self._entries, [], self.tail
        progress = Progress(positions={ASSIGNMENT_REQUESTS: 0, AGENT_EVENTS: 0}, mark=tail.end)
        records = seal(PLACE, entries, expected=tail.end, log_id=tail.log_id, after=tail.after, progress=progress)
        tail.end = (await self._log.append(PLACE, records, expected=tail.end)).offset_next
        tail.after, tail.at_ms = entries[-1].hash, NOW_MS
        tail.advance(progress)
        self._snapshots.note(self.state.confirm(), len(entries))
        if self._snapshots.records >= LaneLimits().snapshot_records:
            self._snapshots.begin(self.state, tail, self.policies)
            await self._snapshots.settle()


async def make(log: Log, conversations: int, agents: int) -> Past:
    """Write the log of a workspace, into an empty one."""
    log_id = await ensure_genesis(log, PLACE, Moment.at(NOW_MS))
    writer = Writer(log, log_id)
    await writer.write(inputs(conversations, agents))
    return Past(writer.state, writer.tail, writer.bytes / writer.tail.end)


async def restored(log: Log, log_id: str, *, with_snapshots: bool) -> Restored:
    """The state, as a lane that takes over makes it, and the seconds of CPU until it is there."""
    gc.collect()
    began_s = time.process_time()
    state, tail, policies = ASSIGNER.new_state(), Tail(log_id=log_id), LanePolicies(PolicyBook({}))
    if with_snapshots:
        await Snapshots(log, ASSIGNER, 0).load(state, tail, policies)
    folded = await fold(log, PLACE, state, tail, policies)
    state.confirm()
    return Restored(state, folded, time.process_time() - began_s)


async def bare(log: Log) -> float:
    """Seconds of CPU to read, parse and hash every record."""
    began_s, position = time.process_time(), 0
    while records := (await log.read(PLACE, position, records_max=READ_RECORDS)).records:
        for record in records:
            value = record.value or b""
            orjson.loads(value)
            sha256(value).hexdigest()
        position = records[-1].offset + 1
    return time.process_time() - began_s


def differences(one: LaneState, other: LaneState) -> list[str]:
    """The keys of parts that are not the same in both, and the agents whose counts are not."""
    parts, others = dict(one.parts()), dict(other.parts())
    keys = [key for key in {*parts, *others} if parts.get(key) != others.get(key)]
    counts, other_counts = _counts(one), _counts(other)
    return sorted(keys) + sorted(agent for agent in counts if counts[agent] != other_counts.get(agent))


def _counts(state: LaneState) -> dict[str, tuple[Any, ...]]:
    assert isinstance(state, Workspaces)
    agents = state.state.desk("default").agents.values()
    return {agent.id: (agent.open, agent.load, agent.since, agent.assigned_last, agent.wrapping) for agent in agents}


async def measure(log: Log, conversations: int, agents: int) -> list[tuple[str, ...]]:
    """Rows of the table; raises ``AssertionError`` if what came back is not what was left."""
    past = await make(log, conversations, agents)
    rows: list[tuple[str, ...]] = []
    for name, with_snapshots in (("from the log", False), ("with snapshots", True)):
        found = await restored(log, past.tail.log_id, with_snapshots=with_snapshots)
        assert not differences(past.state, found.state), "what was restored is not what was left"
        rate = conversations / found.spent_s
        rows.append((name, f"{found.folded:,}", f"{found.spent_s:.2f}", f"{rate:,.0f}", f"{past.bytes_each:,.0f}"))
    spent_s = await bare(log)
    rows.append(("bare: read, parse, hash", f"{past.tail.end:,}", f"{spent_s:.2f}", f"{conversations / spent_s:,.0f}"))
    return rows


async def main(conversations: int = 50_000, agents: int = 50) -> None:
    """Measure and print."""
    tune_garbage_collection()
    with tempfile.TemporaryDirectory() as folder:
        log = open_log(f"sqlite:///{Path(folder) / 'restore.db'}", create=partition_counts(1, 1))
        async with log:
            rows = await measure(log, conversations, agents)
    columns = ("", "records folded", "seconds of CPU", "assignments/s", "bytes a record")
    print_rows(f"Restore of a workspace with {conversations:,} past assignments", columns, rows)


if __name__ == "__main__":
    asyncio.run(main(*(int(argument) for argument in sys.argv[1:])))

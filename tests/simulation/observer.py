"""What a live observer sees: who appended when, and whether each take-over restored what the log says.

It looks at the broker from outside, at once, in the middle of a run. What it finds wrong it keeps; the rest is
evidence for the oracles that judge the final logs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson

from consumers.lane_spec import LaneSpec
from consumers.snapshots import LANE, LaneSnapshot, parts_of
from consumers.specs import ASSIGNER, ROUTER
from events.chain import MARK, link_of
from events.log import NewRecord, StoredRecord, TopicPartition
from events.outputs import Origin
from events.records import LANE_TYPES, POLICY_RECORDED, parse
from events.topics import ASSIGNMENTS, ASSIGNMENTS_LOG, REPLIES, ROUTING_LOG
from routing.decider import LaneState
from routing.workspaces import Workspaces
from tests.simulation.broker import Broker
from tests.simulation.faulty_log import FaultyLog

if TYPE_CHECKING:
    from consumers.lane import Lane
    from tests.simulation.processes import Process

FOLLOWS_WITHIN_MS = 30_000
SPECS = {ROUTING_LOG: ROUTER, ASSIGNMENTS_LOG: ASSIGNER}
SNAPSHOT_TOPICS = {spec.snapshot_topic: spec.log_topic for spec in SPECS.values()}
OUTPUT_TOPICS = {REPLIES: ROUTING_LOG, "assignment.requests": ROUTING_LOG, ASSIGNMENTS: ASSIGNMENTS_LOG}


class Written(NamedTuple):
    """An append that the log took."""

    process: str
    at_ms: int  #: the true time


class ViolationError(Exception):
    """A promise was broken. ``oracle`` says which one saw it."""

    def __init__(self, oracle: str, message: str) -> None:
        super().__init__(f"[{oracle}] {message}")
        self.oracle = oracle


class Observer:
    """Watches one run."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.violations: list[ViolationError] = []
        self.processes: dict[str, tuple[int, int]] = {}  #: per name the clock's skew and the true time of its start, ms
        self.written: dict[TopicPartition, dict[int, Written]] = {}  #: per log and offset
        self.snapshot_entries: list[tuple[TopicPartition, str, int, bytes]] = []  #: log, part, F, bytes: ever written
        self._snapshots: dict[TopicPartition, dict[str, dict[int, bytes]]] = {}
        self._marked: dict[TopicPartition, int] = {}
        self._out: set[bytes | None] = set()
        self._folds: dict[TopicPartition, Fold] = {}
        self.takeovers = 0

    def violated(self, oracle: str, message: str) -> None:
        """Keep what is wrong."""
        self.violations.append(ViolationError(oracle, message))

    # --- what really happened ---

    def appended(self, port: FaultyLog, place: TopicPartition, offset: int, records: Sequence[NewRecord]) -> None:
        """An append took effect, all of it in existence."""
        written = Written(port.name, self._broker.clock_ms())
        owners = self.written.setdefault(place, {})
        for number in range(len(records)):
            owners[offset + number] = written
        mark = dict(records[-1].headers).get(MARK)
        if mark is not None:
            self._check_mark(place, int(mark))

    def published(self, records: Sequence[NewRecord]) -> None:
        """A publish took effect."""
        for record in records:
            if record.topic in OUTPUT_TOPICS:
                self._out.add(record.value)
                self._check_output(record)
            elif record.topic in SNAPSHOT_TOPICS:
                self._check_snapshot(record)

    def _check_output(self, record: NewRecord) -> None:
        event = orjson.loads(record.value or b"")
        told = event["data"]["log"]
        place = TopicPartition(OUTPUT_TOPICS[record.topic], told["partition"])
        found = self._broker.records(place, told["offset"])[:1]
        if not found or found[0].offset != told["offset"] or parse(found[0]).data.get("seq") != event["data"]["seq"]:
            self.violated("published", f"{record.topic}: {event['id']} is out, its record at {told} does not exist")

    def _check_mark(self, place: TopicPartition, mark: int) -> None:
        """Everything that records below the mark made known has to stand in its topic."""
        since = self._marked.get(place, 0)
        if mark <= since:
            return
        self._marked[place] = mark
        origin = origin_of(self._broker, place)
        missing = []
        for stored in self._broker.records(place, since):
            if stored.offset >= mark:
                break
            outputs = outputs_of(stored, SPECS[place.topic], origin)
            missing += [orjson.loads(out.value or b"")["id"] for out in outputs if out.value not in self._out]
        if missing:
            self.violated("mark", f"{place}: the mark says {mark}, but {missing} are not out")

    def _check_snapshot(self, record: NewRecord) -> None:
        """At every moment the newest ``lane@F`` must find all the parts that it counts."""
        log = TopicPartition(SNAPSHOT_TOPICS[record.topic], record.partition)
        entries = self._snapshots.setdefault(log, {})
        key, _, end = (record.key or b"").decode().rpartition("@")
        versions = entries.setdefault(key, {})
        if record.value is None:
            versions.pop(int(end), None)
        else:
            versions[int(end)] = record.value
            for part, value in parts_of(key, record.value).items():
                self.snapshot_entries.append((log, part, int(end), value))
                entries.setdefault(part, {})[int(end)] = value
        newest = max(entries.get(LANE, {}), default=None)
        if newest is None:
            return
        snapshot = msgspec.json.decode(entries[LANE][newest], type=LaneSnapshot)
        found = sum(1 for part, ends in entries.items() if "/" in part and any(at <= newest for at in ends))
        if found != snapshot.parts:
            self.violated("snapshot", f"{log}: lane@{newest} counts {snapshot.parts} parts and {found} are there")

    # --- what a lane believes ---

    def restored(self, lane: Lane) -> None:
        """A lane has taken over and is about to read inputs: it must know what the log says up to there, no more."""
        self.takeovers += 1
        place, tail = lane._place, lane._known_tail()
        fold = self.fold(place, tail.end)
        for what, live, told in (
            ("positions", tail.positions, fold.positions),
            ("mark", tail.mark, fold.mark),
            ("after", tail.after, fold.after),
            ("policies", {version: kept.offset for version, kept in lane._policies.recorded.items()}, fold.policies),
            ("state", dict(lane._state.parts()), dict(fold.state.parts())),
            ("index", index_of(lane._state), index_of(fold.state)),
            ("inputs", {**dict.fromkeys(lane._positions, 0), **fold.positions}, lane._positions),
        ):
            if live != told:
                self.violated("restored", f"{place} up to {tail.end}: {what}: {differences(live, told)}")

    def follows(self, process: Process) -> None:
        """An owner that is left alone knows every record that has been there for a while."""
        tail = process.lane._tail
        if not process.is_running or tail is None or not process.lane.is_ready:
            return
        for stored in self._broker.records(process.place, tail.end)[:1]:
            age_ms = self._broker.clock_ms() - self.written[process.place][stored.offset].at_ms
            if age_ms > FOLLOWS_WITHIN_MS:
                self.violated("live", f"{process.name} has not noticed the record at {stored.offset} for {age_ms} ms")

    def fold(self, place: TopicPartition, end: int) -> Fold:
        """The log folded from its beginning up to ``end``; continued from the last time where that is possible."""
        fold = self._folds.get(place)
        if fold is None or fold.end > end:
            fold = self._folds[place] = Fold(SPECS[place.topic].new_state())
        for stored in self._broker.records(place, fold.end):
            if stored.offset >= end:
                break
            fold.add(stored)
        return fold


class Fold:
    """A log folded from its beginning, without anything else."""

    def __init__(self, state: LaneState) -> None:
        self.state = state
        self.end = 0
        self.positions: dict[str, int] = {}
        self.mark = 0
        self.after = ""
        self.policies: dict[str, int] = {}

    def add(self, stored: StoredRecord) -> None:
        """Fold the next record."""
        record, link = parse(stored), link_of(stored)
        if record.type == POLICY_RECORDED:
            self.policies.setdefault(record.data["version"], stored.offset)
        elif record.type not in LANE_TYPES:
            self.state.evolve(record)
        self.end = stored.offset + 1
        self.after = record.hash
        if link.progress is not None:
            self.positions = dict(link.progress.positions)
            self.mark = max(self.mark, link.progress.mark)


def index_of(state: LaneState) -> Any:
    """What is derived from the parts, as plain values: it has to be the same whichever way the state came about."""
    if not isinstance(state, Workspaces):
        return None
    desks = {
        name: {
            "ready": sorted(desk.ready, key=repr),
            "releasing": sorted(desk.releasing),
            "unconfigured": sorted(desk.unconfigured),
            "missing": sorted(desk.missing),
            "owned": {agent: sorted(owned) for agent, owned in desk._owned.items() if owned},
            "agents": {
                agent.id: (agent.open, agent.wrapping, agent.max_open, agent.presence, agent.record is not None)
                for agent in desk.agents.values()
                if agent.open or agent.record is not None
            },
            "joiners": {leader: sorted(joiners) for leader, joiners in desk._joiners.items() if joiners},
            "waiting": {
                key: (sorted(pool.waiting._live.items()), pool.free)
                for key, pool in desk.pools.by_key.items()
                if len(pool.waiting)
            },
        }
        for name, desk in state.state.desks.items()
    }
    return {name: desk for name, desk in desks.items() if any(desk.values())}, state.state.deadlines._live


def outputs_of(stored: StoredRecord, spec: LaneSpec, origin: Origin) -> Sequence[NewRecord]:
    """What a record of a log makes known to others."""
    record = parse(stored)
    if record.type in LANE_TYPES or record.type == POLICY_RECORDED:
        return []
    return spec.outputs(record, origin)


def origin_of(broker: Broker, place: TopicPartition) -> Origin:
    """What outputs say of the log that they come from."""
    first = broker.records(place)[0]
    partitions = broker.partitions
    return Origin(
        place.topic,
        place.partition,
        link_of(first).log_id,
        contact_partitions=partitions[ASSIGNMENTS],
        workspace_partitions=partitions["assignment.requests"],
    )


def differences(one: Any, other: Any) -> str:
    """Where two values differ, the lane's first."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return "; ".join(f"{key}: {one.get(key)!r} but {other.get(key)!r}" for key in keys[:2])[:900]
    return f"{one!r} but {other!r}"[:900]

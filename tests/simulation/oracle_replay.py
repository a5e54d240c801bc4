"""Decides the whole log again, from the inputs in its records and from those that stand in the topics.

Every record must come out byte for byte. The positions at the end of each append split the inputs into intervals: an
input without a record must lead to none at some moment of its interval, or stand in the dead letters, or where it
belongs; so each input has exactly one outcome.
"""

from __future__ import annotations

from collections.abc import Callable

from events.chain import Progress
from events.cloudevents import BadInputError
from events.dead_letters import parse_dead_letter
from events.log import StoredRecord
from events.records import (
    LANE_TYPES,
    POLICY_RECORDED,
    Moment,
    decided,
    event_of,
    genesis,
    lane_positions,
    policy_recorded,
)
from events.topics import DEAD_LETTERS, partition_of
from routing.decider import Decision, LaneState
from routing.errors import InputRefusedError
from routing.inputs import Event
from routing.policy import Policy
from tests.simulation import setting
from tests.simulation.broker import CLUSTER_ID
from tests.simulation.kept import Kept, KeptLog, Line
from tests.simulation.observer import ViolationError


class ReplayPolicies:
    """The policies as a record tells them: the current one is the one that it names."""

    def __init__(self, recorded: dict[str, Policy]) -> None:
        self._recorded = recorded
        self.offsets: dict[str, int] = {}
        self.named: str | None = None

    def current(self, workspace: str) -> Policy:
        if workspace not in setting.policies(0):
            raise InputRefusedError("unknown-workspace", workspace)
        return self._recorded.get(self.named or "", setting.POLICIES[0])

    def pinned(self, version: str) -> Policy:
        assert version in self.offsets, f"{version} is used before it was recorded"
        return self._recorded[version]


class Silent:
    """An input that made no record. It was decided after ``place`` others of its topic that did, in the same append."""

    def __init__(self, stored: StoredRecord, place: int) -> None:
        self.stored = stored
        self.place = place
        self.outcomes: set[str] = set()


class Replay:
    """One log, decided again."""

    def __init__(self, kept: Kept, log: KeptLog) -> None:
        self._kept = kept
        self._log = log
        self._state: LaneState = log.spec.new_state()
        self._policies = ReplayPolicies(log.policies)
        self._positions = dict.fromkeys(log.spec.decoders, 0)
        self._inputs = {topic: log.inputs(topic) for topic in log.spec.decoders}
        self._recorded: dict[str, int] = dict.fromkeys(log.spec.decoders, -1)  # the last offset with a record
        self._passed: dict[str, int] = {}  # per topic, how many inputs with a record this append has had
        self._silent: list[Silent] = []
        self._decision: Decision | None = None
        self._event: Event | None = None
        self._at_ms = 0
        self._decided_ms = 0
        self.asides: list[Silent] = []

    def run(self) -> None:
        """Raise ``ViolationError`` where the log does not come out."""
        for append in self._log.appends:
            self._append(append)
        for topic, position in self._positions.items():
            if position != len(self._inputs[topic]):
                raise ViolationError(
                    "outcome", f"{self._log.place}: {topic} was decided up to {position} of {len(self._inputs[topic])}"
                )

    def _append(self, lines: list[Line]) -> None:
        progress = lines[-1].link.progress
        if progress is None:
            self._check_bytes(lines[0], self._lane_record(lines[0]))
            return
        self._open_interval(lines, progress)
        for line in lines:
            if line.record.type in LANE_TYPES:
                self._check_bytes(line, self._lane_record(line))
            elif line.record.type == POLICY_RECORDED:
                self._check_bytes(line, self._policy(line))
            else:
                self._decided(line)
        self._no_follow_up(lines[-1])
        self._judge_silent(lines[-1].record.at_ms)
        self._at_ms = lines[-1].record.at_ms
        for silent in self._silent:
            if not silent.outcomes:
                place = f"{silent.stored.topic}/{silent.stored.partition}@{silent.stored.offset}"
                here = lines[-1].stored.offset
                raise ViolationError(
                    "outcome", f"{self._log.place}: {place} leads to something, but made no record up to {here}"
                )
        self.asides += [silent for silent in self._silent if silent.outcomes == {"aside"}]

    def _open_interval(self, lines: list[Line], progress: Progress) -> None:
        causes = [line.record.data["cause"] for line in lines if line.is_decided and "input" in line.record.data]
        self._silent = []
        self._passed = dict.fromkeys(self._inputs, 0)
        for topic, inputs in self._inputs.items():
            start, self._positions[topic] = self._positions[topic], progress.positions[topic]
            self._check_range(lines, topic, start, progress.positions[topic])
            recorded = [cause["offset"] for cause in causes if cause["topic"] == topic]
            for stored in inputs[start : progress.positions[topic]]:
                if stored.offset not in recorded:
                    self._silent.append(Silent(stored, sum(offset < stored.offset for offset in recorded)))

    def _check_range(self, lines: list[Line], topic: str, start: int, end: int) -> None:
        """Inputs take effect in the append whose interval holds them, in partition order, once."""
        for line in lines:
            data = line.record.data
            if not line.is_decided or "input" not in data or data["cause"]["topic"] != topic:
                continue
            offset = data["cause"]["offset"]
            here = f"{self._log.place} at {line.stored.offset}"
            if data["cause"]["partition"] != self._log.place.partition or not start <= offset < end:
                raise ViolationError("outcome", f"{here}: its input {data['cause']} is not in {start}..{end}")
            if offset <= self._recorded[topic]:
                raise ViolationError("outcome", f"{here}: its input {data['cause']} was decided before")
            self._recorded[topic] = offset

    def _decided(self, line: Line) -> None:
        data = line.record.data
        first = "input" in data
        if first:
            self._no_follow_up(line)
            self._judge_silent(line.record.at_ms)
            self._event = event_of(line.record)
            if self._event.cause.topic is not None:
                self._passed[self._event.cause.topic] += 1
            self._policies.named = data["policy"]
            self._check_input(line, self._event)
            decide: Callable[..., Decision | None] = self._state.decide
        else:
            decide = self._state.follow_up
        assert self._event is not None
        decision = decide(self._event, self._policies, line.record.at_ms)
        self._policies.named = None
        if decision is None:
            raise ViolationError(
                "replay", f"{self._log.place} at {line.stored.offset}: {line.record.type} does not follow"
            )
        home = line.record.contact if self._log.spec.role == "router" else line.record.workspace
        if partition_of(home, self._kept.broker.partitions[self._log.place.topic]) != self._log.place.partition:
            raise ViolationError("outcome", f"{self._log.place} at {line.stored.offset}: {home!r} belongs elsewhere")
        offset = self._policies.offsets.get(decision.policy or "") if self._log.spec.records_policies else None
        moment = Moment.at(line.record.at_ms)
        built = decided(
            self._log.place.topic, decision, self._event, moment,
            first=first, offset=line.stored.offset, policy_offset=offset,
        )  # fmt: skip
        self._check_bytes(line, built.value)
        self._state.evolve(line.record)
        self._decision = decision
        self._decided_ms = line.record.at_ms

    def _check_input(self, line: Line, event: Event) -> None:
        """The recorded input is the one that stands in its topic."""
        cause = line.record.data["cause"]
        if cause["topic"] is None:
            return
        stored = self._inputs[cause["topic"]][cause["offset"]]
        told = self._state.read(self._log.spec.decoders[cause["topic"]](stored), self._policies)
        if told.recorded() != event.recorded() or told.cause != event.cause:
            raise ViolationError(
                "replay", f"{self._log.place} at {line.stored.offset}: its input is not what stands in the topic"
            )

    def _no_follow_up(self, line: Line) -> None:
        """All that the input before this record led to was done."""
        if self._decision is not None and self._decision.more and self._event is not None:
            further = self._state.follow_up(self._event, self._policies, self._decided_ms)
            if further is not None:
                raise ViolationError(
                    "replay", f"{self._log.place} before {line.stored.offset}: {further.type} should follow"
                )
        self._decision = None

    def _judge_silent(self, at_ms: int) -> None:
        """See what those inputs without a record lead to that may have been decided at this moment."""
        for silent in self._silent:
            if silent.place == self._passed[silent.stored.topic] and "nothing" not in silent.outcomes:
                outcome = self._outcome(silent.stored, at_ms)
                silent.outcomes |= set() if outcome is None else {outcome}

    def _outcome(self, stored: StoredRecord, at_ms: int) -> str | None:
        """Whether this input now leads to nothing ("nothing"), or elsewhere ("aside"); None: to a record."""
        try:
            event = self._log.spec.decoders[stored.topic](stored)
            if (
                partition_of(self._log.spec.home(event), self._kept.broker.partitions[self._log.place.topic])
                != stored.partition
            ):
                return "aside"
            event = self._state.read(event, self._policies)
            nothing = any(self._state.decide(event, self._policies, now) is None for now in (self._at_ms, at_ms))
        except (BadInputError, InputRefusedError):
            return "aside"
        return "nothing" if nothing else None

    def _policy(self, line: Line) -> bytes:
        data = line.record.data
        self._policies.offsets.setdefault(data["version"], line.stored.offset)
        policy = self._log.policies[data["version"]]
        moment = Moment.at(line.record.at_ms)
        return policy_recorded(self._log.place.topic, policy, data["workspace"], self._log.place.partition, moment)

    def _lane_record(self, line: Line) -> bytes:
        place, moment, data = self._log.place, Moment.at(line.record.at_ms), line.record.data
        if line.record.type == "lane.positions":
            return lane_positions(place.topic, place.partition, line.stored.offset, moment)
        count = self._kept.broker.partitions[place.topic]
        return genesis(place.topic, place.partition, moment, log_id=data["log_id"], cluster_id=CLUSTER_ID, count=count)

    def _check_bytes(self, line: Line, value: bytes) -> None:
        if value != line.stored.value:
            raise ViolationError(
                "replay", f"{self._log.place} at {line.stored.offset}:\n{line.stored.value!r}\nshould be\n{value!r}"
            )


def check_replay(kept: Kept) -> None:
    """Every log comes out again, and every input had exactly one outcome."""
    parsed = [parse_dead_letter(record) for record in kept.topic(DEAD_LETTERS)]
    for letter in parsed:
        if letter.reason in {"fault", "batch-full"}:
            raise ViolationError("outcome", f"{letter.topic}/{letter.partition}@{letter.offset}: {letter.detail}")
    letters = {(letter.topic, letter.partition, letter.offset) for letter in parsed}
    sent_on = {
        (record.topic, dict(record.headers)["rerouted-from"])
        for log in kept.logs
        for topic in log.spec.public_inputs
        for record in kept.topic(topic)
        if "rerouted-from" in dict(record.headers)
    }
    justified = set()
    for log in kept.logs:
        replay = Replay(kept, log)
        replay.run()
        justified |= {silent.stored[:3] for silent in replay.asides}
        for silent in replay.asides:
            topic, partition, offset = silent.stored[:3]
            if (topic, partition, offset) not in letters and (topic, b"%d@%d" % (partition, offset)) not in sent_on:
                raise ViolationError(
                    "outcome", f"{topic}/{partition}@{offset} is neither decided, nor a dead letter, nor sent on"
                )
    if kept.world.plan.calm and letters - justified:  # in trouble a stale owner may have set aside what another decides
        raise ViolationError("outcome", f"{letters - justified} are dead letters and were decided as well")

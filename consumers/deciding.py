"""Turns inputs into the records of one append, on top of a lane's state.

Bad input is set aside here (dead letters, records on a foreign partition); storing anything is the lane's business.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias

from consumers.lane_spec import LaneLimits, LaneSpec
from consumers.personal_ids import PersonalIds
from consumers.policy_book import LanePolicies
from events.adapter import limit_bytes, record_bytes
from events.chain import Entry
from events.cloudevents import BadInputError
from events.dead_letters import dead_letter
from events.log import NewRecord, StoredRecord
from events.outputs import Origin
from events.records import Moment, decided, hash_of, policy_recorded
from events.topics import partition_of
from routing.decider import Decision, LaneState, LogRecord
from routing.errors import InputRefusedError
from routing.inputs import Event

logger = logging.getLogger(__name__)

REROUTED_FROM: Final = "rerouted-from"
HEADERS_MAX: Final = 1_000  #: of a record that is sent on: each takes room beside its bytes
MOVED_TOLD_EVERY: Final = 10_000  #: records that were sent on: a producer's wrong partitioner must not fill the log
GROUP_INPUTS: Final = 32  #: measured: below, the steps' code is fetched again and again; above, the data is
Input: TypeAlias = StoredRecord | Event  #: an Event stands in no topic: a deadline, or the policy's agents


class Aside(NamedTuple):
    """An input that is not decided here, as the record that keeps it: a dead letter, or sent on to its partition."""

    record: NewRecord
    told: str  #: for the program's log
    level: int = logging.WARNING  #: there


class Ahead(NamedTuple):
    """An input that was read and decided before it is its turn to be recorded."""

    event: Event
    decision: Decision | None


@dataclass(slots=True)
class Batch:
    """What one append will hold, and what has to be known elsewhere before it."""

    end: int  #: of the log that it is for
    now: Moment
    entries: list[Entry] = field(default_factory=list)
    outputs: list[tuple[int, Sequence[NewRecord]]] = field(default_factory=list)
    aside: list[NewRecord] = field(default_factory=list)  #: dead letters and re-routed records
    positions: dict[str, int] = field(default_factory=dict)
    inputs: int = 0  #: how many of those offered were decided
    size_bytes: int = 0
    unfolded: list[LogRecord] = field(default_factory=list)  #: made, and not yet part of the state

    @property
    def next_offset(self) -> int:
        """Where the next record will stand."""
        return self.end + len(self.entries)

    def store(self, key: str, value: bytes, value_hash: str) -> None:
        """Take a record of the log along."""
        self.entries.append(Entry(key.encode(), value, value_hash))
        self.size_bytes += len(value)

    def set_aside(self, aside: Aside) -> None:
        """Take a record along that has to be safe elsewhere before the positions pass its input."""
        logger.log(aside.level, aside.told)
        self.aside.append(aside.record)


class UnfitError(Exception):
    """An input's records cannot be stored. The state was discarded; the inputs before it may be decided again."""

    def __init__(self, index: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.index = index
        self.reason = reason
        self.detail = detail


class Deciding:
    """Decides inputs of one partition."""

    def __init__(
        self,
        spec: LaneSpec,
        state: LaneState,
        policies: LanePolicies,
        origin: Origin,
        limits: LaneLimits,
        *,
        home_partitions: int,
        dead_letter_partitions: int,
    ) -> None:
        self._spec = spec
        self._state = state
        self._policies = policies
        self._origin = origin
        self._limits = limits
        self._home_partitions = home_partitions
        self._dead_letter_partitions = dead_letter_partitions
        self._personal_ids = PersonalIds()
        self._moved: Counter[str] = Counter()  #: by topic, records that were sent on

    def is_home(self, event: Event) -> bool:
        """Whether the event belongs on this partition."""
        return partition_of(self._spec.home(event), self._home_partitions) == self._origin.partition

    def decide(self, inputs: Sequence[Input], *, end: int, now: Moment) -> Batch:
        """Decide as many inputs as one append takes, for a log that ends at ``end``; the state is provisional after it.

        An input that cannot be stored goes to the dead letters, alone: the others are decided as if it were not there.
        """
        count = len(inputs)
        while True:
            try:
                return self._decide(inputs[:count], end, now)
            except UnfitError as unfit:
                self._state.discard()
                self._policies.discard(end)
                if unfit.index == 0:
                    return self._refuse_first(inputs[0], unfit, end, now)
                count = unfit.index

    def _decide(self, inputs: Sequence[Input], end: int, now: Moment) -> Batch:
        """In small groups, each step over a whole group: code and data stay in the processor's caches.

        Where inputs concern different contacts, that holds for deciding, recording and folding too.
        """
        batch = Batch(end, now)
        for first in range(0, len(inputs), GROUP_INPUTS):
            group = inputs[first : first + GROUP_INPUTS]
            admitted = [self._admit(item, now) if isinstance(item, StoredRecord) else item for item in group]
            made: list[LogRecord] = []
            is_full = self._decide_group(group, admitted, batch, made)
            for record in made:
                if record.type == "conversation.started":
                    self._personal_ids.look_at(record, f"{self._origin.topic}/{self._origin.partition}")
                outputs = self._spec.outputs(record, self._origin)
                if outputs:
                    batch.outputs.append((record.offset, outputs))
            if is_full:
                break
        return batch

    def _decide_group(
        self, group: Sequence[Input], admitted: Sequence[Event | Aside], batch: Batch, made: list[LogRecord]
    ) -> bool:
        """Decide the inputs in their order, ``made`` gets their records; True when the append is full."""
        ahead: dict[int, Ahead] = {}
        for place, (item, event) in enumerate(zip(group, admitted, strict=True)):
            if isinstance(event, Event):
                if place not in ahead:
                    self._fold(batch)
                    ahead = self._look_ahead(admitted, place, batch.now)
                self._decide_safely(event, ahead.get(place), item, batch, made)
            else:
                batch.set_aside(event)
            if isinstance(item, StoredRecord):
                batch.positions[item.topic] = item.offset + 1
            batch.inputs += 1
            if batch.size_bytes >= self._limits.append_bytes_soft:
                self._fold(batch)
                return True
        self._fold(batch)
        return False

    def _look_ahead(self, admitted: Sequence[Event | Aside], first: int, now: Moment) -> dict[int, Ahead]:
        """What inputs from ``first`` on lead to, by their place, up to the first that has to see an earlier one's fold.

        One that cannot be decided ends it: its turn comes, and its error with it.
        """
        ahead: dict[int, Ahead] = {}
        if not self._spec.decides_ahead:
            return ahead
        contacts: set[tuple[str, str]] = set()
        try:
            for place, event in enumerate(admitted[first:], start=first):
                if isinstance(event, Event):
                    contact = (event.workspace, event.contact)
                    if contact in contacts:
                        break
                    contacts.add(contact)
                    ahead[place] = self._decided(event, now)
        except Exception:  # decided again when it is its turn, which tells
            logger.debug("an input could not be decided ahead", exc_info=True)
        return ahead

    def _decided(self, event: Event, now: Moment) -> Ahead:
        event = self._state.read(event, self._policies)
        return Ahead(event, self._state.decide(event, self._policies, now.ms))

    def _fold(self, batch: Batch) -> None:
        """Fold what was made and is not folded yet."""
        for record in batch.unfolded:
            self._state.evolve(record)
        batch.unfolded.clear()

    def _admit(self, record: StoredRecord, now: Moment) -> Event | Aside:
        """The event of a record that belongs here; anything else is to be set aside."""
        try:
            event = self._spec.decoders[record.topic](record)
        except BadInputError as error:
            return self._dead_letter(record, error.reason, error.detail, now)
        home = partition_of(self._spec.home(event), self._home_partitions)
        if home == record.partition:
            return event
        return self._sent_on(record, home, now)

    def _decide_safely(
        self, event: Event, ahead: Ahead | None, item: Input, batch: Batch, made: list[LogRecord]
    ) -> None:
        """A fault of ours must not wedge the partition: the input that shows it goes to the dead letters."""
        try:
            self._decide_one(event, ahead, item, batch, made)
        except UnfitError:
            raise
        except Exception as error:
            logger.exception("a fault in the decider, at input %s", event.cause)
            raise UnfitError(batch.inputs, "fault", f"the decider failed with {type(error).__name__}") from error

    def _decide_one(self, event: Event, ahead: Ahead | None, item: Input, batch: Batch, made: list[LogRecord]) -> None:
        now = batch.now
        before_bytes = batch.size_bytes
        try:
            event, decision = ahead or self._decided(event, now)
        except InputRefusedError as error:
            if not isinstance(item, StoredRecord):
                raise
            batch.set_aside(self._dead_letter(item, error.reason, str(error), now))
            return
        first = True
        for _ in range(self._limits.follow_ups_max):
            if decision is None:
                return
            made.append(self._add(decision, event, batch, first=first))
            if batch.size_bytes > self._limits.append_bytes_max:
                if batch.size_bytes - before_bytes > self._limits.append_bytes_max:
                    raise UnfitError(batch.inputs, "too-large", "what this input leads to does not fit into one append")
                raise UnfitError(batch.inputs, "batch-full", "goes into the next append")
            if not decision.more:
                return
            first = False
            self._fold(batch)
            decision = self._state.follow_up(event, self._policies, now.ms)
        detail = f"more than {self._limits.follow_ups_max} records follow from one input"
        raise UnfitError(batch.inputs, "fault", detail)

    def _add(self, decision: Decision, event: Event, batch: Batch, *, first: bool) -> LogRecord:
        policy_offset = self._policy_offset(decision, event, batch)
        built = decided(
            self._spec.log_topic,
            decision,
            event,
            batch.now,
            first=first,
            offset=batch.next_offset,
            policy_offset=policy_offset,
        )
        record = built.record
        batch.store(decision.contact or event.workspace, built.value, record.hash)
        batch.unfolded.append(record)
        return record

    def _policy_offset(self, decision: Decision, event: Event, batch: Batch) -> int | None:
        """Where the log has the decision's policy; it is recorded right before its first use."""
        version = decision.policy
        if version is None or not self._spec.records_policies:
            return None
        found = self._policies.recorded.get(version)
        if found is not None:
            return found.offset
        policy = self._policies.current(event.workspace)
        offset = batch.next_offset
        value = policy_recorded(self._spec.log_topic, policy, event.workspace, self._origin.partition, batch.now)
        batch.store(event.workspace, value, hash_of(value))
        self._policies.add(policy, event.workspace, offset)
        return offset

    def _dead_letter(self, record: StoredRecord, reason: str, detail: str, now: Moment) -> Aside:
        letter = dead_letter(record, reason, detail, now_ms=now.ms, partitions=self._dead_letter_partitions)
        return Aside(letter, f"{_place(record)} to the dead letters: {reason}")

    def _sent_on(self, record: StoredRecord, home: int, now: Moment) -> Aside:
        """A producer's partitioner is not Kafka's default: the record goes where it belongs, once."""
        sent_before = any(name == REROUTED_FROM for name, _ in record.headers)
        if sent_before or record.topic not in self._spec.public_inputs:
            return self._dead_letter(record, "wrong-partition", f"belongs on partition {home}", now)
        came_from = f"{record.partition}@{record.offset}".encode()
        headers = (*record.headers, (REROUTED_FROM, came_from))
        moved = NewRecord(record.topic, home, record.key, record.value, headers)
        if record_bytes(moved) > limit_bytes(record.topic) or len(headers) > HEADERS_MAX:
            detail = f"belongs on partition {home}, and is too large to be sent on with its key and headers"
            return self._dead_letter(record, "wrong-partition", detail, now)
        self._moved[record.topic] += 1
        count = self._moved[record.topic]
        level = logging.WARNING if _is_worth_a_line(count) else logging.DEBUG
        return Aside(moved, f"{_place(record)} belongs on partition {home}: sent on, {count:,} so far", level)

    def _refuse_first(self, item: Input, unfit: UnfitError, end: int, now: Moment) -> Batch:
        if not isinstance(item, StoredRecord):
            raise unfit
        batch = Batch(end, now, inputs=1, positions={item.topic: item.offset + 1})
        batch.set_aside(self._dead_letter(item, unfit.reason, unfit.detail, now))
        return batch


def _is_worth_a_line(count: int) -> bool:
    """Whether to warn of the ``count``-th of its kind: 1, 10, 100 ..., from 10,000 on each 10,000."""
    return count % MOVED_TOLD_EVERY == 0 or count in {1, 10, 100, 1_000}


def _place(record: StoredRecord) -> str:
    return f"{record.topic}/{record.partition}@{record.offset}"

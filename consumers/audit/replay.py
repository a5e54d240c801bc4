"""Decides the inputs in the log once more, with today's deciders and the log's policies, and compares the bytes.

A record that holds an input begins a group; those after it with no input of their own follow from the same input. What
an input was read as (``LaneState.read``) stands in the record, so nothing is read again, and inputs that had no effect
left no record and cannot be replayed. Whether the log was tampered with is ``verify.py``'s business: a record that was
forged so well that the deciders would make it passes here.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from consumers.audit.reading import Seen, difference_of, log_ends, nothing_there, place_of, seen, whole
from consumers.audit.report import BrokenError, Counts, Difference, OnProgress, Place, Report, compare
from consumers.lane_spec import LaneSpec
from consumers.policy_book import LanePolicies, PolicyBook
from events.log import Log, TopicPartition
from events.records import (
    POLICY_RECORDED,
    Built,
    Moment,
    RecordError,
    decided,
    event_of,
    genesis,
    lane_positions,
    policy_recorded,
)
from events.topics import ROUTING_LOG
from routing.decider import DECIDER_VERSION, Decision
from routing.errors import PolicyError, RoutingError
from routing.inputs import Event
from routing.policy import Policy

NOT_CHECKED: Final = (
    'whether records are missing; "vip-router audit verify" says it',
    "whether inputs are true: who makes a log anew of other inputs, with what is decided of them, passes",
)


class _NamedPolicies(LanePolicies):
    """The policies of the log alone. The current one is the one that the record under replay names."""

    def __init__(self) -> None:
        super().__init__(PolicyBook({}))
        self.named: str | None = None

    def current(self, workspace: str) -> Policy:
        """The policy that the record was decided with."""
        if self.named is None:
            raise BrokenError(
                f"today's decider starts something new in workspace {workspace} here; the record names no policy"
            )
        return self.pinned(self.named)

    def pinned(self, version: str) -> Policy:
        """A policy that the log has recorded before."""
        if version not in self.recorded:
            raise BrokenError(f"the policy {version} is used, but not recorded before", field="data.policy")
        return super().pinned(version)


async def replay(log: Log, *, on_progress: OnProgress | None = None) -> Report:
    """Decide the recorded inputs of both logs again and compare every record; stops at the first difference.

    Looks at what the log holds when it begins. Needs as much memory as the lanes do. Raises ``LogError`` if the log
    cannot be read.
    """
    counts = Counts(on_progress)
    counts.checked.update({"partitions": 0, "records": 0, "decisions": 0, "follow-ups": 0, "policies": 0})
    difference = await _first_difference(log, counts)
    return Report(checked=dict(counts.checked), first_difference=difference, not_checked=NOT_CHECKED)


async def _first_difference(log: Log, counts: Counts) -> Difference | None:
    partition: _Partition | None = None
    try:
        ends = await log_ends(log)
        counts.total = sum(end for _, _, end in ends)
        for spec, place, end in ends:
            partition = _Partition(spec, place, counts)
            async for stored in whole(log, place, end):
                partition.take(seen(stored))
                counts.step()
            partition.finish(end)
            counts.checked["partitions"] += 1
        if not counts.checked["records"]:
            raise nothing_there()
    except BrokenError as broken:
        if partition is None:
            return difference_of(broken, None, TopicPartition(ROUTING_LOG, 0), check="replay")
        return partition.difference(broken)
    return None


class _Group:
    """An input and what it has caused so far."""

    __slots__ = ("event", "last", "now")

    def __init__(self, event: Event, now: Moment) -> None:
        self.event = event
        self.now = now
        self.last: Decision | None = None


class _Partition:
    """The replay of one partition."""

    def __init__(self, spec: LaneSpec, place: TopicPartition, counts: Counts) -> None:
        self._spec = spec
        self._place = place
        self._counts = counts
        self._state = spec.new_state()
        self._policies = _NamedPolicies()
        self._group: _Group | None = None
        self._unused: Seen | None = None  # a policy that was recorded and not used yet
        self._now: Seen | None = None

    def take(self, found: Seen) -> None:
        """Replay one record; raises ``BrokenError`` where it is not what comes out today."""
        self._now = found
        self._counts.checked["records"] += 1
        if found.record.type == POLICY_RECORDED:
            self._take_policy(found)
        elif not found.moves:
            self._end_group(found)
            self._take_lane_record(found)
        elif "input" in found.data:
            self._end_group(found)
            self._begin(found)
        else:
            self._follow(found)

    def finish(self, end: int) -> None:
        """The partition ends: nothing may be left to follow."""
        self._now = None
        self._end_group(None, end=end)
        if self._unused is not None:
            raise BrokenError(
                "the policy is recorded, but the record that uses it is missing", place=place_of(self._unused.stored)
            )

    def difference(self, broken: BrokenError) -> Difference:
        """What was found, with the place where it was found."""
        now = self._now
        made_by = DECIDER_VERSION if now is None else now.data.get("decider", DECIDER_VERSION)
        if made_by != DECIDER_VERSION:
            note = f"it was decided by version {made_by} of the decider, this is version {DECIDER_VERSION}"
            broken.sentence = f"{broken.sentence} ({note})"
        return difference_of(broken, now, self._place, check="replay")

    # --- records that no decider makes ---

    def _take_policy(self, found: Seen) -> None:
        data = found.data
        try:
            self._policies.record(data["version"], data["text"], data["workspace"], found.stored.offset)
            policy = self._policies.recorded[data["version"]].policy
            now = Moment.at(found.record.at_ms)
            expected = policy_recorded(self._place.topic, policy, data["workspace"], self._place.partition, now)
        except (PolicyError, KeyError) as error:
            raise BrokenError(f"the recorded policy cannot be read today: {error}", field="data.text") from None
        _same(expected, found, "the recorded policy")
        if self._policies.recorded[policy.version].offset != found.stored.offset:
            raise BrokenError(f"the policy {policy.version} was recorded before")
        self._unused = found
        self._counts.checked["policies"] += 1

    def _take_lane_record(self, found: Seen) -> None:
        record, data = found.record, found.data
        now = Moment.at(record.at_ms)
        if record.type == "lane.positions":
            place, skip = self._place, data.get("skip")
            expected = lane_positions(place.topic, place.partition, found.stored.offset, now, skip=skip)
        elif record.type == "log.genesis":
            told = {name: data.get(name) for name in ("log_id", "cluster_id")}
            expected = genesis(
                self._place.topic,
                self._place.partition,
                now,
                count=data.get("partitions", 0),
                **told,  # type: ignore[arg-type]
            )
        else:
            raise BrokenError(f"{record.type} is no record of ours", field="type")
        _same(expected, found, "the record")

    # --- decisions ---

    def _begin(self, found: Seen) -> None:
        try:
            event = event_of(found.record)
        except RecordError as error:
            raise BrokenError(str(error), field="data.input") from None
        self._group = _Group(event, Moment.at(found.record.at_ms))
        self._policies.named = found.data.get("policy")
        decision = self._ask("decide")
        self._compare(decision, found, first=True)
        self._counts.checked["decisions"] += 1

    def _follow(self, found: Seen) -> None:
        group = self._group
        if group is None or group.last is None or not group.last.more:
            raise BrokenError("it holds no input, and nothing follows from the one before it today", field="data.input")
        self._policies.named = found.data.get("policy")
        self._compare(self._ask("follow_up"), found, first=False)
        self._counts.checked["follow-ups"] += 1

    def _end_group(self, next_record: Seen | None, *, end: int | None = None) -> None:
        """Nothing more may follow from the group that ends here."""
        group, self._group = self._group, None
        if group is None or group.last is None or not group.last.more:
            return
        self._policies.named = None
        self._group = group
        further = self._ask("follow_up")
        self._group = None
        if further is not None:
            offset = end if next_record is None else next_record.stored.offset
            raise BrokenError(
                f"today's decider makes one more record of the input before: {further.type} for "
                f"{further.contact or 'an agent'}/{further.subject}, which is not there",
                place=Place(topic=self._place.topic, partition=self._place.partition, offset=offset),
            )

    def _ask(self, what: str) -> Decision | None:
        """What today's decider does; whatever it raises is a difference."""
        group = self._group
        assert group is not None
        step = getattr(self._state, what)
        try:
            decision: Decision | None = step(group.event, self._policies, group.now.ms)
        except BrokenError:
            raise
        except RoutingError as error:
            raise BrokenError(f"today's decider refuses the input: {error}") from error
        except Exception as error:  # a decider that fails on a recorded input is what we look for
            raise BrokenError(f"today's decider fails on the input with {type(error).__name__}") from error
        return decision

    def _compare(self, decision: Decision | None, found: Seen, *, first: bool) -> None:
        group = self._group
        assert group is not None
        if decision is None:
            raise BrokenError("today's decider makes no record here", expected="nothing", found=found.record.type)
        built = self._build(decision, found, group, first=first)
        made_by = found.data.get("decider")
        _same(_by_decider(built.value, made_by), found, "the record")
        key = (decision.contact or group.event.workspace).encode()
        if found.stored.key != key:
            raise BrokenError("the record has another key than today's", field="(key)")
        self._check_policy_use(decision)
        self._counts.checked[f"decided by version {made_by}"] += 1
        self._state.evolve(found.record)
        self._state.confirm()
        group.last = decision

    def _build(self, decision: Decision, found: Seen, group: _Group, *, first: bool) -> Built:
        policy_offset = None
        if decision.policy is not None and self._spec.records_policies:
            self._policies.pinned(decision.policy)
            policy_offset = self._policies.recorded[decision.policy].offset
        return decided(
            self._place.topic, decision, group.event, group.now,
            first=first, offset=found.stored.offset, policy_offset=policy_offset,
        )  # fmt: skip

    def _check_policy_use(self, decision: Decision) -> None:
        """A policy is recorded right before the record that uses it first."""
        unused, self._unused = self._unused, None
        if unused is not None and decision.policy != unused.data["version"]:
            raise BrokenError(
                f"before it the policy {unused.data['version']} was recorded, which it does not use",
                field="data.policy",
            )


def _by_decider(value: bytes, version: Any) -> bytes:
    """The bytes as a decider of that version would have made them: its number alone is no difference."""
    if version == DECIDER_VERSION:
        return value
    event = orjson.loads(value)
    event["data"]["decider"] = version
    return orjson.dumps(event)


def _same(expected: bytes, found: Seen, what: str) -> None:
    """Raise ``BrokenError`` unless the stored bytes are the expected ones."""
    stored = found.stored.value or b""
    if expected == stored:
        return
    difference = compare(orjson.loads(expected), found.event)
    if difference is None:
        at = next((i for i, (a, b) in enumerate(zip(expected, stored, strict=False)) if a != b), len(expected))
        raise BrokenError(f"{what} says the same as today, but in other bytes, from byte {at} on")
    field, wanted, there = difference
    raise BrokenError(
        f"{what} is not what comes out today", field=field or "(whole record)", expected=wanted, found=there
    )

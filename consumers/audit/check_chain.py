"""Checks of what holds a log together: links, beginning, names and bytes, places, time."""

from __future__ import annotations

from typing import Any, Final

import orjson

from consumers.audit.checking import Partition, Rule, expect, require
from consumers.audit.reading import Seen
from consumers.audit.report import BrokenError, Place, compare
from events.chain import AFTER, EXPECTED_OFFSET, LOG_ID, MARK, NOTHING_BEFORE, POSITIONS, Link, check_link
from events.cloudevents import envelope
from events.ids import event_id
from events.log import LogError
from events.records import POLICY_RECORDED, Moment, genesis, lane_positions, source_of
from events.times import format_time
from events.topics import ROUTING_LOG, partition_of

_HEADERS: Final = (EXPECTED_OFFSET, LOG_ID, AFTER)
_HEADERS_AT_END: Final = (*_HEADERS, POSITIONS, MARK)
_ROUTING_TYPES: Final = frozenset({
    "conversation.started", "conversation.joined", "conversation.taken", "conversation.ended", "contact.changed",
    "email.rejected", "email.accepted", "email.timed-out", "email.unreachable", "crm.resolved", "crm.unresolved",
    "input.ignored",
})  # fmt: skip
_ASSIGNMENT_TYPES: Final = frozenset({
    "assignment.queued", "assignment.offered", "assignment.made", "assignment.rerouted", "assignment.released",
    "assignment.not-routed", "agent.changed", "agents.recorded", "hours.changed", "input.ignored",
})  # fmt: skip


class Chain(Rule):
    """Every record stands where its writer wanted it, in this log, after the bytes that he saw before it."""

    name = "chain"

    def __init__(self, partition: Partition) -> None:
        self._log_id = partition.log_id
        self._after = NOTHING_BEFORE
        self._last: Link | None = None
        self._where = partition.at.place
        self._end = partition.at.end

    def see(self, found: Seen, link: Link) -> None:
        """Hold the links against what stands there."""
        stored = found.stored
        names = tuple(name for name, _ in stored.headers)
        require(
            names in (_HEADERS, _HEADERS_AT_END), "its headers are not those of a lane", field="(headers)", found=names
        )
        try:
            check_link(stored, link, log_id=self._log_id, after=link.after)
        except LogError as error:
            raise BrokenError(str(error), field="(headers)") from None
        if link.after != self._after:
            before = max(stored.offset - 1, 0)
            raise BrokenError(
                f"these are not the bytes that were appended here: the record at offset {stored.offset} was appended "
                "after others (one of the two was changed, exchanged, or put in)",
                field="(all bytes)",
                expected=link.after or "nothing",
                found=self._after or "nothing",
                place=Place(topic=stored.topic, partition=stored.partition, offset=before),
            )
        self._after = found.record.hash
        self._last = link

    def finish(self) -> None:
        """A log ends where an append ends, or has only begun: the genesis record says nothing of positions."""
        is_begun = self._end > 1 if self._last is None else self._last.expected_offset > 0
        if is_begun and (self._last is None or self._last.progress is None):
            raise BrokenError("the log ends in the middle of an append: what stood behind it was removed")


class Beginning(Rule):
    """The first record says which log this is, of which store, with how many partitions; no other does."""

    name = "genesis"

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def see(self, found: Seen, link: Link) -> None:
        """Compare the first record with the store."""
        is_first = found.stored.offset == 0
        is_genesis = found.record.type == "log.genesis"
        kind = found.record.type
        require(is_genesis or not is_first, "the log does not begin with log.genesis", field="type", found=kind)
        require(is_first or not is_genesis, "log.genesis stands in the middle of a log", field="type", found=kind)
        if is_first:
            data, partition = found.data, self._partition
            expect("data.log_id", link.log_id, data.get("log_id"), "the log has two names")
            expect("data.cluster_id", partition.cluster_id, data.get("cluster_id"), "the log is another store's")
            expect("data.partitions", partition.count, data.get("partitions"), "the partition count has changed")


class Names(Rule):
    """A record's bytes are those of its content: id, source, time, schema and key follow from what it says."""

    name = "ids"

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._types = _ROUTING_TYPES if partition.topic == ROUTING_LOG else _ASSIGNMENT_TYPES

    def see(self, found: Seen, link: Link) -> None:
        """Build the bytes again."""
        del link
        kind = found.record.type
        if kind == POLICY_RECORDED:
            return  # the check of policies looks at these
        expected = self._made_by_decider(found) if found.moves else self._made_by_lane(found)
        if expected == found.stored.value:
            return
        difference = compare(orjson.loads(expected), found.event)
        if difference is None:
            raise BrokenError("the record is not written as we write: blanks, or escapes that are none of ours")
        field, wanted, there = difference
        raise BrokenError(
            "the record's names do not follow from its content", field=field, expected=wanted, found=there
        )

    def _made_by_decider(self, found: Seen) -> bytes:
        record, data = found.record, found.data
        require(record.type in self._types, "this type does not belong in this log", field="type", found=record.type)
        expect("data.at", format_time(record.at_ms), data.get("at"), "the record has two times")
        decider = data.get("decider")
        require(
            isinstance(decider, int) and decider > 0, "the record names no decider", field="data.decider", found=decider
        )
        return envelope(
            id=event_id(record.contact, record.subject, data["seq"], 0),
            source=source_of(self._partition.topic, record.workspace),
            type=record.type,
            subject=record.subject,
            time_ms=record.at_ms,
            partitionkey=record.contact or record.workspace,
            workspace=record.workspace,
            data=data,
        )

    def _made_by_lane(self, found: Seen) -> bytes:
        place, now, data = self._partition.at.place, Moment.at(found.record.at_ms), found.data
        if found.record.type == "lane.positions":
            return lane_positions(place.topic, place.partition, found.stored.offset, now, skip=data.get("skip"))
        require(found.record.type == "log.genesis", "the record has no seq", field="data.seq")
        log_id, cluster_id = str(data.get("log_id")), str(data.get("cluster_id"))
        count: Any = data.get("partitions")
        return genesis(place.topic, place.partition, now, log_id=log_id, cluster_id=cluster_id, count=count)


class Homes(Rule):
    """A record stands on the partition of its contact (of its workspace, in the assigner's log), under its key."""

    name = "partitions"

    def __init__(self, partition: Partition) -> None:
        self._partition = partition

    def see(self, found: Seen, link: Link) -> None:
        """Compute key and partition again."""
        del link
        record, partition = found.record, self._partition
        if not found.moves:
            return
        expected = record.contact or record.workspace
        key = (found.stored.key or b"").decode(errors="replace")
        expect("(key)", expected, key, "the record has another's key")
        home_key = record.contact if partition.topic == ROUTING_LOG else record.workspace
        home = partition_of(home_key, partition.count)
        expect("(partition)", home, partition.at.place.partition, "the record belongs on another partition")


class Time(Rule):
    """Time does not run backwards in a log, and no deadline fires before it is due."""

    name = "time"

    def __init__(self, partition: Partition) -> None:
        del partition
        self._at_ms = 0

    def see(self, found: Seen, link: Link) -> None:
        """Compare with the record before."""
        del link
        at_ms = found.record.at_ms
        require(
            at_ms >= self._at_ms, "the record is older than the one before it",
            field="time", expected=f"at least {format_time(self._at_ms)}", found=format_time(at_ms),
        )  # fmt: skip
        self._at_ms = at_ms
        told = found.data.get("input")
        if isinstance(told, dict) and told.get("type") == "deadline.passed":
            require(
                told["time_ms"] <= at_ms, "the deadline fired before it was due",
                field="data.input.time_ms", expected=f"at most {at_ms}", found=told["time_ms"],
            )  # fmt: skip

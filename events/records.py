"""Log records: how a decision is stored, and how a stored record is read back.

A stored record is one CloudEvent in structured mode; its bytes are what the hashes cover. What is not part of the
decision (positions, mark, chain) stands in the record's headers: ``events/chain.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson
from msgspec import Struct, ValidationError, convert

from events.cloudevents import envelope
from events.ids import assignments_source, encode_part, event_id, routing_source
from events.log import StoredRecord
from events.times import format_time, parse_time
from events.topics import ROUTING_LOG
from routing.decider import DECIDER_VERSION, Decision, LogRecord
from routing.inputs import Cause, Event, Origin, body_from_record
from routing.policy import Policy

LANE_TYPES: Final = frozenset({"log.genesis", "lane.positions"})  #: records that no decider sees
OFFER_ANSWERS: Final = frozenset({"assignment.accepted", "assignment.declined"})
POLICY_RECORDED: Final = "policy.recorded"
_CANDIDATES: Final = b'"candidates":['
_CANDIDATES_END: Final = b'],"candidates_total":'
RECORD_TYPES: Final = (
    "conversation.started", "conversation.joined", "conversation.taken", "conversation.ended", "contact.changed",
    "email.rejected", "email.accepted", "email.timed-out", "email.unreachable", "crm.resolved", "crm.unresolved",
    "assignment.queued", "assignment.offered", "assignment.made", "assignment.rerouted", "assignment.released",
    "assignment.not-routed", "agent.changed", "agents.recorded", "hours.changed", "input.ignored", POLICY_RECORDED,
    *sorted(LANE_TYPES),
)  # fmt: skip


class RecordError(Exception):
    """A stored record that is none of ours: the log was written by somebody else, or is damaged."""


class Moment(NamedTuple):
    """One instant, both ways; made once for a whole batch."""

    ms: int
    text: str

    @classmethod
    def at(cls, ms: int) -> Moment:
        """The moment of this many Unix milliseconds."""
        return cls(ms, format_time(ms))


def hash_of(value: bytes) -> str:
    """``sha256:<hex>`` of a record's bytes as stored."""
    return f"sha256:{sha256(value).hexdigest()}"


@lru_cache(maxsize=1024)
def source_of(log_topic: str, workspace: str) -> str:
    """The CloudEvents source of what is decided in this log."""
    return routing_source(workspace) if log_topic == ROUTING_LOG else assignments_source(workspace)


class Built(Struct, frozen=True):
    """A record as bytes to append and as ``evolve`` takes it."""

    value: bytes
    record: LogRecord


def decided(
    log_topic: str,
    decision: Decision,
    event: Event,
    now: Moment,
    *,
    first: bool,
    offset: int,
    policy_offset: int | None,
) -> Built:
    """The record of a decision, which will stand at ``offset``.

    ``first`` is True for the record that the event caused directly: it holds the input, the follow-ups do not.
    ``policy_offset`` is where this log recorded the decision's policy; a look-up carries it, so that the CRM consumer
    finds the policy with one read.
    """
    cause = event.cause
    contact, subject, seq = decision.contact, decision.subject, decision.seq
    personal = decision.pii
    data: dict[str, Any] = {
        "run": decision.run,
        "seq": seq,
        "prev": decision.prev,
        "cause": {"topic": cause.topic, "partition": cause.partition, "offset": cause.offset, "id": cause.id},
    }
    if first:
        data["input"], told_personal = event.recorded()
        if contact and not event.contact:  # an agent's word about a conversation: its record keeps who said it
            data["input"]["agent"] = event.conversation
        if told_personal:
            personal = {"input": told_personal, **personal}
    data["policy"] = decision.policy
    data["at"] = now.text
    data["decider"] = DECIDER_VERSION
    data.update(decision.data)
    if policy_offset is not None and "lookup" in data:
        data["lookup"] = {**data["lookup"], "policy_offset": policy_offset}
    if personal:
        data["pii"] = personal
    workspace = event.workspace
    value = envelope(
        id=event_id(contact, subject, seq, 0),
        source=source_of(log_topic, workspace),
        type=decision.type,
        subject=subject,
        time_ms=now.ms,
        partitionkey=contact or workspace,
        workspace=workspace,
        data=data,
    )
    record = LogRecord(
        type=decision.type, workspace=workspace, contact=contact, subject=subject,
        data=data, hash=hash_of(value), offset=offset, at_ms=now.ms,
    )  # fmt: skip
    return Built(value, record)


def policy_recorded(log_topic: str, policy: Policy, workspace: str, partition: int, now: Moment) -> bytes:
    """The record that keeps a policy's text, the first time that this partition uses it."""
    return envelope(
        id=f"policy/{encode_part(policy.version)}/{partition}",
        source=source_of(log_topic, workspace),
        type=POLICY_RECORDED,
        subject=policy.version,
        time_ms=now.ms,
        partitionkey=workspace,
        workspace=workspace,
        data={"version": policy.version, "workspace": workspace, "at": now.text, "text": policy.text},
    )


def lane_positions(
    log_topic: str, partition: int, offset: int, now: Moment, *, skip: Mapping[str, Any] | None = None
) -> bytes:
    """The record that says how far the lane has read (in its headers) when nothing else does.

    ``skip``: somebody has set a position by hand (``consumers/skipping.py``), and says why.
    """
    data: dict[str, Any] = {"at": now.text} if skip is None else {"at": now.text, "skip": skip}
    return _of_lane(log_topic, f"lane/{partition}/{offset}", "lane.positions", now, data)


def genesis(log_topic: str, partition: int, now: Moment, *, log_id: str, cluster_id: str, count: int) -> bytes:
    """A log partition's first record: which log this is, and how many partitions it has for ever."""
    data = {"log_id": log_id, "cluster_id": cluster_id, "topic": log_topic, "partitions": count, "at": now.text}
    return _of_lane(log_topic, f"genesis/{partition}", "log.genesis", now, data)


def _of_lane(log_topic: str, name: str, kind: str, now: Moment, data: dict[str, Any]) -> bytes:
    source = f"/vip-router/{'routing' if log_topic == ROUTING_LOG else 'assignments'}"
    return envelope(
        id=name, source=source, type=kind, subject=None, time_ms=now.ms, partitionkey=None, workspace=None, data=data
    )


_at_ms: Final = lru_cache(maxsize=1024)(parse_time)  # the records of an append share their time


def parse(stored: StoredRecord, *, whole: bool = True) -> LogRecord:
    """A stored record; raises ``RecordError`` naming the place if it is none of ours.

    ``whole`` False, for records of assignments only, leaves the ``candidates`` out, which are most of the bytes and
    which no fold reads.
    """
    value = stored.value or b""
    try:
        record = orjson.loads(value) if whole else _without_candidates(value)
        return LogRecord(
            type=record["type"],
            workspace=record.get("workspace", ""),
            contact="" if record["id"].startswith("/") else record.get("partitionkey", ""),  # an agent has no contact
            subject=record.get("subject"),
            data=record["data"],
            hash=hash_of(value),
            offset=stored.offset,
            at_ms=_at_ms(record["time"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        place = f"{stored.topic}/{stored.partition} at offset {stored.offset}"
        raise RecordError(f"{place} holds no record of ours ({error!r}): was it written by another program?") from error


def _without_candidates(value: bytes) -> Any:
    """The record with an empty list of candidates.

    Inside a text the quotes would be escaped, so both marks are members. Where the first is another object's than the
    second, what is left is no JSON, as that object lost its end: then nothing is left out.
    """
    start = value.find(_CANDIDATES)
    end = -1 if start < 0 else value.find(_CANDIDATES_END, start)
    if end < 0:
        return orjson.loads(value)
    try:
        return orjson.loads(b"".join((value[: start + len(_CANDIDATES)], value[end:])))
    except orjson.JSONDecodeError:
        return orjson.loads(value)


def event_of(record: LogRecord) -> Event:
    """The input that a record was decided from, as the decider was given it; only for records that hold one.

    Raises ``RecordError`` if the record holds none, or one that cannot be read.
    """
    data = record.data
    try:
        told = dict(data["input"])
        origin = told.pop("origin", None)
        source, time_ms = told.pop("source"), told.pop("time_ms")
        by_agent = told["type"] in OFFER_ANSWERS and "agent" in told
        return Event(
            workspace=record.workspace,
            contact="" if by_agent else record.contact,
            conversation=told.pop("agent") if by_agent else record.subject,
            source=source,
            time_ms=time_ms,
            cause=convert(data["cause"], Cause),
            body=body_from_record(told, data.get("pii", {}).get("input", {})),
            origin=None if origin is None else convert(origin, Origin),
        )
    except (KeyError, ValidationError) as error:
        raise RecordError(f"the record at offset {record.offset} holds no input that can be read: {error}") from error

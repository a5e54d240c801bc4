"""What a log record makes known to others: a pure function of the record and of where it stands.

The same record always has the same outputs, with the same ids and bytes; ``n`` counts them from 1. They are published
after the append that decided them was confirmed: the lane's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from events import topics
from events.cloudevents import envelope
from events.ids import event_id
from events.log import NewRecord
from events.records import source_of
from events.times import format_time
from routing.decider import LogRecord

REQUESTS: Final = frozenset({"assignment.requested", "assignment.ended", "assignment.taken", "assignment.refused"})


class Origin(NamedTuple):
    """The log that records come from, and the partition counts of the topics that their outputs go to."""

    topic: str
    partition: int
    log_id: str
    contact_partitions: int
    workspace_partitions: int


class _Writer:
    """Collects the outputs of one record."""

    __slots__ = ("_at", "_common", "_origin", "_record", "outputs")

    def __init__(self, record: LogRecord, origin: Origin) -> None:
        data = record.data
        self._record = record
        self._origin = origin
        self._common = {"run": data["run"], "seq": data["seq"]}
        self.outputs: list[NewRecord] = []

    def add(
        self,
        topic: str,
        type: str,
        fields: dict[str, Any],
        *,
        contact: dict[str, Any] | None = None,
        channel: dict[str, Any] | None = None,
        language: str | None = None,
        expires_ms: int | None = None,
    ) -> None:
        """One more output, with what every output holds before its own fields."""
        record, origin = self._record, self._origin
        n = len(self.outputs) + 1
        data: dict[str, Any] = {"contact": contact or {"id": record.contact}}
        if channel:
            data["channel"] = channel
        if language is not None:
            data["language"] = language
        data.update(self._common)
        data["n"] = n
        data["log"] = {"id": origin.log_id, "partition": origin.partition, "offset": record.offset}
        data.update(fields)
        by_workspace = topic == topics.ASSIGNMENT_REQUESTS
        key = record.workspace if by_workspace else record.contact
        value = envelope(
            id=event_id(record.contact, record.subject, self._common["seq"], n),
            source=source_of(origin.topic, record.workspace),
            type=type,
            subject=record.subject,
            time_ms=record.at_ms,
            partitionkey=key,
            workspace=record.workspace,
            data=data,
            expiry_ms=expires_ms,
        )
        count = origin.workspace_partitions if by_workspace else origin.contact_partitions
        self.outputs.append(NewRecord(topic, topics.partition_of(key, count), key.encode(), value))


def routing_outputs(record: LogRecord, origin: Origin) -> list[NewRecord]:
    """Replies to send, addresses captured, and what is asked of the assigner, in this order."""
    data = record.data
    reply, request = data.get("reply"), data.get("request")
    if reply is None and request is None and "captured" not in data:
        return []
    writer = _Writer(record, origin)
    personal = data.get("pii") or {}
    channel, language = data.get("channel"), data.get("language")
    if reply is not None and "reply" in personal:
        fields = {"kind": reply["kind"], "attempt": reply["attempt"], "text": personal["reply"]}
        expires_ms = reply.get("expires_ms")
        writer.add(topics.REPLIES, "reply.requested", fields, channel=channel, language=language, expires_ms=expires_ms)
    closed = data.get("closed")
    if closed is not None and "closed" in personal:
        fields = {"kind": "closed", "attempt": closed["attempt"], "text": personal["closed"]}
        writer.add(topics.REPLIES, "reply.requested", fields, channel=channel, language=language)
    if "captured" in data and "email" in personal:
        who = {"id": record.contact, "email": personal["email"]}
        writer.add(topics.REPLIES, "contact.email-captured", {}, contact=who, channel=channel, language=language)
    if request is not None:
        fields = {name: value for name, value in request.items() if name not in {"type", "channel", "language"}}
        writer.add(
            topics.ASSIGNMENT_REQUESTS,
            request["type"],
            fields,
            channel=request.get("channel"),
            language=request.get("language"),
        )
    return writer.outputs


def assignment_outputs(record: LogRecord, origin: Origin) -> list[NewRecord]:
    """What downstream consumers are told of a conversation's owner."""
    tell = _ASSIGNMENT_OUTPUTS.get(record.type)
    if tell is None:
        return []
    writer = _Writer(record, origin)
    tell(writer, record.data)
    return writer.outputs


def _tell(writer: _Writer, data: dict[str, Any], type: str, fields: dict[str, Any]) -> None:
    writer.add(topics.ASSIGNMENTS, type, fields, channel=data.get("channel"), language=data.get("language"))


def _queued(writer: _Writer, data: dict[str, Any]) -> None:
    fields = {"route": data["route"], "route_reason": data["route_reason"], "target": data["target"]}
    if data.get("overdue"):
        fields["overdue"] = True
    if "opens_ms" in data:
        fields["opens"] = format_time(data["opens_ms"])
    _tell(writer, data, "conversation.queued", fields)


def _offered(writer: _Writer, data: dict[str, Any]) -> None:
    until = format_time(data["until_ms"])
    fields = {"agent": data["agent"], "token": data["token"], "until": until}
    _tell(writer, data, "conversation.offered", fields)


def _ignored(writer: _Writer, data: dict[str, Any]) -> None:
    refused = data.get("refused")
    if refused is not None:
        _tell(writer, data, "conversation.accept-refused", {**refused, "reason": data["reason"]})


def _made(writer: _Writer, data: dict[str, Any]) -> None:
    released = data.get("released")
    if released is not None:
        _taken_back(writer, data, released["agent"], released["reason"])
    names = ("route", "route_reason", "agent", "team", "strategy", "reason", "waited_ms", "policy")
    fields = {name: data[name] for name in names if data.get(name) is not None}
    _tell(writer, data, "conversation.assigned", fields)


def _rerouted(writer: _Writer, data: dict[str, Any]) -> None:
    if data["from"] == "assigned":  # who was only offered it is told when he accepts
        fields = {name: data[name] for name in ("agent", "route", "route_reason", "policy")}
        _tell(writer, data, "conversation.rerouted", fields)


def _taken_back(writer: _Writer, data: dict[str, Any], agent: str, reason: str) -> None:
    """An agent has it no more, or may not accept it any more."""
    if data["from"] == "offered":
        fields = {"agent": agent, "token": data["token"], "reason": reason}
        _tell(writer, data, "conversation.offer-withdrawn", fields)
    else:
        _tell(writer, data, "conversation.released", {"agent": agent, "reason": reason})


def _released(writer: _Writer, data: dict[str, Any]) -> None:
    if data.get("agent") is not None:
        _taken_back(writer, data, data["agent"], data["reason"])
    if data["to"] == "waiting":
        _queued(writer, data)


def _not_routed(writer: _Writer, data: dict[str, Any]) -> None:
    _tell(writer, data, "conversation.not-routed", {"reason": data["reason"]})


_ASSIGNMENT_OUTPUTS: Final[dict[str, Callable[[_Writer, dict[str, Any]], None]]] = {
    "assignment.queued": _queued,
    "assignment.offered": _offered,
    "assignment.made": _made,
    "assignment.rerouted": _rerouted,
    "assignment.released": _released,
    "assignment.not-routed": _not_routed,
    "input.ignored": _ignored,
}

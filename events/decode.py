"""Records of the input topics to what deciders take: one function a topic.

The envelope is checked by ``events/cloudevents.py``, older data lifted by ``events/upcast.py``, ``data`` read by
``events/bodies.py``; here it is settled which workspace, contact and conversation an event concerns.
What it leads to is the deciders' business.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from msgspec import ValidationError, convert

from events import event_types, topics, wire
from events.bodies import AGENT_EVENTS, CONVERSATION_EVENTS, CRM_ANSWERS, REQUESTS
from events.cloudevents import DEFAULT_WORKSPACE, BadInputError, Envelope, Reason, explain, open_envelope, plain_id
from events.log import StoredRecord
from events.upcast import UPCASTS, Upcasts
from routing import inputs

TYPE_CHARS_TOLD_MAX: Final = 64
_TYPE: Final = re.compile(r"[A-Za-z]+[0-9]{0,3}([._-][A-Za-z]+[0-9]{0,3})*")  # no addresses, no phone numbers
_PRODUCERS_TOPICS: Final = frozenset({topics.CONVERSATION_EVENTS, topics.AGENT_EVENTS})

Wire = TypeVar("Wire", bound=wire.Data)


def decode_conversation(record: StoredRecord, *, upcasts: Upcasts = UPCASTS) -> inputs.Event:
    """An event of ``conversations.events``; raises ``BadInputError``.

    ``conversation`` is the subject, or None; an opening without one takes its event id, and ``contact.updated``
    concerns the contact whatever its subject. An event without ``time`` has that of its record.
    """
    envelope = open_envelope(record.value, record.headers, bytes_max=topics.INPUT_BYTES_MAX)
    known = CONVERSATION_EVENTS.get(envelope.type)
    if known is None:
        raise _unknown(envelope.type, topics.CONVERSATION_EVENTS)
    data = _data(envelope, known.data, upcasts)
    conversation = envelope.subject
    if conversation is None and envelope.type == "conversation.opened":
        conversation = envelope.id
    elif envelope.type == "contact.updated":
        conversation = None
    time_ms = record.time_ms if envelope.time_ms is None else envelope.time_ms
    return inputs.Event(
        workspace=envelope.workspace or DEFAULT_WORKSPACE,
        contact=contact_of(envelope, record.key),
        conversation=conversation,
        source=envelope.source,
        time_ms=time_ms,
        cause=_cause(record, envelope),
        body=known.read(data, time_ms),
    )


def decode_crm_answer(record: StoredRecord, *, upcasts: Upcasts = UPCASTS) -> inputs.Event:
    """An event of ``crm.answers``; raises ``BadInputError``."""
    envelope = open_envelope(record.value, record.headers, id_chars_max=wire.OUR_ID_CHARS_MAX)
    known = CRM_ANSWERS.get(envelope.type)
    if known is None:
        raise _unknown(envelope.type, topics.CRM_ANSWERS)
    time_ms = record.time_ms if envelope.time_ms is None else envelope.time_ms
    return inputs.Event(
        workspace=envelope.workspace or DEFAULT_WORKSPACE,
        contact=contact_of(envelope, record.key),
        conversation=_required_subject(envelope, "the conversation's id"),
        source=envelope.source,
        time_ms=time_ms,
        cause=_cause(record, envelope),
        body=known.read(_data(envelope, known.data, upcasts), time_ms),
    )


def decode_agent(record: StoredRecord, *, upcasts: Upcasts = UPCASTS) -> inputs.Event:
    """An event of ``agents.events``, its ``conversation`` the agent's id; raises ``BadInputError``.

    The workspace is the attribute ``workspace``, else ``partitionkey``, else ``default``.
    """
    envelope = open_envelope(record.value, record.headers)
    known = AGENT_EVENTS.get(envelope.type)
    if known is None:
        raise _unknown(envelope.type, topics.AGENT_EVENTS)
    return inputs.Event(
        workspace=workspace_of(envelope),
        contact="",
        conversation=_required_subject(envelope, "the agent's id"),
        source=envelope.source,
        time_ms=record.time_ms if envelope.time_ms is None else envelope.time_ms,
        cause=_cause(record, envelope),
        body=known.read(_data(envelope, known.data, upcasts)),
    )


def decode_request(record: StoredRecord, *, upcasts: Upcasts = UPCASTS) -> inputs.Event:
    """An event of ``assignment.requests``, with the log record it is an output of; raises ``BadInputError``."""
    envelope = open_envelope(
        record.value, record.headers, bytes_max=topics.RECORD_BYTES_MAX, id_chars_max=wire.OUR_ID_CHARS_MAX
    )
    known = REQUESTS.get(envelope.type)
    if known is None:
        raise _unknown(envelope.type, topics.ASSIGNMENT_REQUESTS)
    data = _data(envelope, known.data, upcasts)
    assert isinstance(data, wire.Output)
    return inputs.Event(
        workspace=workspace_of(envelope),
        contact=data.contact.id,
        conversation=_required_subject(envelope, "the conversation's id"),
        source=envelope.source,
        time_ms=record.time_ms if envelope.time_ms is None else envelope.time_ms,
        cause=_cause(record, envelope),
        body=known.read(data),
        origin=inputs.Origin(
            log_id=data.log.id, partition=data.log.partition, offset=data.log.offset, n=data.n, run=data.run
        ),
    )


def contact_of(envelope: Envelope, key: bytes | None) -> str:
    """Whom the event concerns: ``partitionkey``, else ``data.contact.id``, else the record's key.

    Raises ``BadInputError``: ``key-mismatch`` if the first two differ, ``no-contact`` if there is none of them.
    """
    contact = envelope.data.get("contact")
    named = contact.get("id") if contact.__class__ is dict else None
    if named is not None:
        named = _checked_id(named, "data.contact.id")
    if envelope.partitionkey is not None:
        if named is not None and named != envelope.partitionkey:
            raise BadInputError("key-mismatch", "partitionkey and data.contact.id name different contacts")
        return envelope.partitionkey
    return named if named is not None else _contact_of_key(key)


def _contact_of_key(key: bytes | None) -> str:
    if not key:
        raise BadInputError("no-contact", "set partitionkey to the contact's id, or data.contact.id, or the key")
    try:
        return _checked_id(key.decode("utf-8", errors="strict"), "key", "no-contact")
    except UnicodeDecodeError:
        raise BadInputError("no-contact", "the key is not UTF-8: set partitionkey to the contact's id") from None


def workspace_of(envelope: Envelope) -> str:
    """The workspace of an agents' event or a request; ``BadInputError`` if its two attributes differ."""
    if envelope.workspace is None:
        return envelope.partitionkey or DEFAULT_WORKSPACE
    if envelope.partitionkey is not None and envelope.partitionkey != envelope.workspace:
        raise BadInputError("key-mismatch", "partitionkey and workspace name different workspaces")
    return envelope.workspace


def _unknown(type_: str, topic: str) -> BadInputError:
    for known in event_types.EVENT_TYPES:
        if known.name == type_:
            return BadInputError("unknown-type", _elsewhere(known, topic))
    names = [known.name for known in event_types.EVENT_TYPES if known.topic == topic]
    near = get_close_matches(type_[: wire.ID_CHARS_MAX], names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"known on {topic}: {', '.join(names)}"
    return BadInputError("unknown-type", f"type: {_named(type_)}; {hint}")


def _elsewhere(known: event_types.EventType, topic: str) -> str:
    """What is wrong with a type of the contract on this topic."""
    if known.topic in _PRODUCERS_TOPICS:
        return f"{known.name} does not belong on {topic}: publish it on {known.topic}"
    return (
        f"{known.name} is vip-router's own event, which only it writes, on {known.topic}: "
        f"take it out of what is sent to {topic}"
    )


def _named(type_: str) -> str:
    """What came, if it looks like a type: whatever else somebody wrote there may be personal."""
    if len(type_) <= TYPE_CHARS_TOLD_MAX and _TYPE.fullmatch(type_) is not None:
        return f"there is none called {type_}"
    return "what came is no name of a type"


def _data(envelope: Envelope, data: type[Wire], upcasts: Upcasts) -> Wire:
    values = upcasts.apply(envelope.type, envelope.dataschema, envelope.data)
    try:
        return convert(values, data)
    except ValidationError as error:
        raise BadInputError("bad-data", explain(error, "data")) from None


def _cause(record: StoredRecord, envelope: Envelope) -> inputs.Cause:
    return inputs.Cause(topic=record.topic, partition=record.partition, offset=record.offset, id=envelope.id)


def _required_subject(envelope: Envelope, meaning: str) -> str:
    if envelope.subject is None:
        raise BadInputError("bad-envelope", f"subject: is missing; it is {meaning}")
    return envelope.subject


def _checked_id(value: Any, field: str, reason: Reason = "bad-data") -> str:
    try:
        return plain_id(convert(value, wire.Id), field, reason)
    except ValidationError as error:
        raise BadInputError(reason, explain(error, field)) from None

"""The contract for machines: JSON Schema of every public event, and the check of an event before it is published.

Made of ``events/wire.py`` and ``events/event_types.py``, so that it cannot differ from what is read and written.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson
from msgspec.json import schema_components

from events import event_types, topics, wire
from events.cloudevents import DEFAULT_WORKSPACE, SOURCE_CHARS_MAX, BadInputError, open_envelope
from events.decode import contact_of, decode_agent, decode_conversation, workspace_of
from events.log import StoredRecord
from events.upcast import UPCASTS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_READ_TOPICS: Final = frozenset({topics.CONVERSATION_EVENTS, topics.AGENT_EVENTS})
_SUBJECTS: Final = {
    topics.AGENT_EVENTS: "the agent's id",
    topics.DEAD_LETTERS: "absent",
}
_PARTITION_KEYS: Final = {
    topics.AGENT_EVENTS: "the workspace",
    topics.DEAD_LETTERS: "absent",
}


class Publishable(NamedTuple):
    """Where an event belongs."""

    topic: str
    key: bytes | None  #: None: it says nowhere whom it concerns
    partition_key: str  #: what the partition is made of: the contact's id or the workspace
    problem: BadInputError | None  #: why the router will put it among the dead letters; None: it will not


def check_publishable(raw: bytes) -> Publishable:
    """Where the event that ``raw`` is belongs: ``agent.*`` and ``assignment.*`` to the agents' topic.

    Raises ``BadInputError`` if ``raw`` is no CloudEvent. One that is, but which no router of this release can use (its
    type is unknown, its data is bad), is told by ``problem``: whether to publish it is the caller's choice.
    """
    event = open_envelope(raw)
    of_agents = event.type.startswith(("agent.", "assignment."))
    topic = topics.AGENT_EVENTS if of_agents else topics.CONVERSATION_EVENTS
    record = StoredRecord(topic, 0, 0, None, raw, (), 0)
    problem = None
    try:
        if of_agents:
            decode_agent(record)
        else:
            decode_conversation(record)
    except BadInputError as error:
        problem = error
    try:
        partition_key = workspace_of(event) if of_agents else contact_of(event, None)
    except BadInputError:
        partition_key = event.partitionkey or (DEFAULT_WORKSPACE if of_agents else "")
    return Publishable(topic, partition_key.encode() or None, partition_key, problem)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of each public event type, envelope included; each stands alone."""
    return {
        event.name: event_schema(event) for event in event_types.EVENT_TYPES if event.topic in event_types.PUBLIC_TOPICS
    }


def event_schema(event: event_types.EventType) -> dict[str, Any]:
    """JSON Schema of one event type, in structured mode. Unknown fields are allowed, as the contract has it."""
    (data,), components = schema_components([event.data], ref_template="#/$defs/{name}")
    definitions = orjson.loads(orjson.dumps(components))  # a default may be a tuple
    read = event.topic in _READ_TOPICS
    required = ["specversion", "id", "source", "type"]
    if not read:
        required += ["time", "datacontenttype", "dataschema", "data"]
    elif definitions[event.data.__name__]["required"]:
        required.append("data")
    if event.topic == topics.AGENT_EVENTS:
        required.append("subject")
    return {
        "$schema": DIALECT,
        "$id": f"urn:vip-router:{event.name}:{UPCASTS.newest(event.name)}",
        "title": event.name,
        "description": f"On the topic {event.topic}. {(event.data.__doc__ or '').partition(chr(10))[0]}",
        "type": "object",
        "properties": {**_attributes(event, read=read), "data": data},
        "required": required,
        "$defs": definitions,
    }


def _attributes(event: event_types.EventType, *, read: bool) -> dict[str, Any]:
    """The schema of the envelope's attributes."""
    text = {"type": "string", "minLength": 1, "maxLength": wire.ID_CHARS_MAX}
    id_ = {"type": ["string", "integer"], "minLength": 1, "maxLength": wire.ID_CHARS_MAX} if read else text
    own_id = id_ if read else {**text, "maxLength": wire.OUR_ID_CHARS_MAX}
    schema = f"urn:vip-router:{event.name}:{UPCASTS.newest(event.name)}"
    attributes: dict[str, Any] = {
        "specversion": {"const": "1.0"},
        "id": own_id,
        "source": {"type": "string", "format": "uri-reference", "minLength": 1, "maxLength": SOURCE_CHARS_MAX},
        "type": {"const": event.name},
        "subject": {**id_, "description": _SUBJECTS.get(event.topic, "the conversation's id")},
        "time": {"type": "string", "format": "date-time"},
        "datacontenttype": {"type": "string"} if read else {"const": "application/json"},
        "dataschema": {"type": "string", "minLength": 1} if read else {"const": schema},
        "partitionkey": {**id_, "description": _PARTITION_KEYS.get(event.topic, "the contact's id")},
        "workspace": {**id_, "default": DEFAULT_WORKSPACE},
    }
    if event.name == "reply.requested":
        attributes["expirytime"] = {"type": "string", "format": "date-time"}
    return attributes

"""Inputs that no lane can use, with the reason that each gets, and inputs that come at the wrong time."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.processes import event, opened

DEEP = b'{"specversion":"1.0","id":"deep","source":"/t","type":"x","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


class Raw(NamedTuple):
    """A record as a producer without our checks writes it."""

    value: bytes | None
    reason: str  #: that its dead letter has
    key: bytes | None = b"bad"


def wire(**changes: Any) -> bytes:
    """An opening with some of it changed."""
    return json.dumps({**opened("bad"), **changes}).encode()


RAW = {
    "not JSON": Raw(b"{not json", "not-json"),
    "no value": Raw(None, "not-json"),
    "not UTF-8": Raw(b'{"id": "\xff"}', "not-json"),
    "NaN": Raw(wire(data={"contact": {"id": "bad"}, "x": float("nan")}), "not-json"),
    "lone surrogate": Raw(rb'{"specversion":"1.0","id":"\ud800","source":"/t","type":"x"}', "not-json"),
    "an array": Raw(b"[]", "not-an-object"),
    "depth 100,000": Raw(DEEP, "too-deep"),
    "duplicate keys": Raw(wire()[:-1] + b', "id": "again"}', "duplicate-keys"),
    "missing envelope fields": Raw(wire(id=None), "bad-envelope"),
    "wrong type in the envelope": Raw(wire(time=5), "bad-envelope"),
    "missing data fields": Raw(wire(data={}), "bad-data"),
    "wrong type in the data": Raw(wire(data={"contact": {"id": "bad"}, "channel": 5}), "bad-data"),
    "unknown type": Raw(wire(type="conversation.open"), "unknown-type"),
    "unknown workspace": Raw(wire(workspace="elsewhere"), "unknown-workspace"),
    "null key and nobody named": Raw(
        json.dumps({**event("message.received", "bad", "v", {}), "partitionkey": None}).encode(), "no-contact", key=None
    ),
    "two contacts named": Raw(wire(partitionkey="other"), "key-mismatch"),
    "no conversation named and none open": Raw(
        json.dumps(event("message.received", "lost", None, {"text": "hi?"})).encode(), "no-open-conversation", b"lost"
    ),
}  # fmt: skip


def message(contact: str, number: int, text: str) -> dict[str, Any]:
    """A message in the contact's conversation."""
    data = {"message_id": f"m{number}", "text": text}
    return event(
        "message.received", contact, f"v-{contact}", data, id=f"m-{contact}-{number}", time="2099-01-01T00:00:00Z"
    )


def closed(contact: str) -> dict[str, Any]:
    """The end of it."""
    return event("conversation.closed", contact, f"v-{contact}", {})


ODD = [
    message("early", 1, "before it was opened"),
    opened("early"),
    opened("twice"),
    {**opened("twice"), "id": "opened-again"},
    opened("gone"),
    closed("gone"),
    message("gone", 1, "anybody there?"),
    {**closed("gone"), "id": "closed-again"},
    opened("mute"),
    message("mute", 1, ""),
]

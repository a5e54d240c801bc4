"""What clients in other languages write and read: keys, values and headers as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

STRUCTURED = "application/cloudevents+json"


class Wire(NamedTuple):
    """One record."""

    key: str
    value: str
    headers: tuple[tuple[str, str], ...] = ()


class ClientUnavailableError(RuntimeError):
    """A client of another language cannot be had here; the message says what would help."""


def structured(event: Mapping[str, Any]) -> Wire:
    """A CloudEvent as a record whose value is the whole event."""
    return Wire(event["partitionkey"], json.dumps(event), (("content-type", STRUCTURED),))


def binary(event: Mapping[str, Any]) -> Wire:
    """The same event as a record whose attributes are headers and whose value is its data."""
    attributes = [(f"ce_{name}", str(value)) for name, value in event.items() if name != "data"]
    return Wire(event["partitionkey"], json.dumps(event["data"]), (("content-type", "application/json"), *attributes))

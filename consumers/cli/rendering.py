"""A stored record as a line: for programs the CloudEvent as it stands in the log, for people its outline."""

from __future__ import annotations

from typing import Any, Final

import orjson
from rich.text import Text

from consumers.cli.output import time_text, visible
from events.adapter import UNREADABLE
from events.log import StoredRecord

VALUE_CHARS_MAX: Final = 120  #: of one field in the outline
_BEHIND_THE_SCENES: Final = frozenset({"cause", "prev", "decider", "log", "at", "pii", "contact", "run", "seq", "n"})


def event_line(record: StoredRecord) -> bytes | None:
    """The record's CloudEvent on one line: exactly its bytes, unless they have line breaks or are in binary mode.

    None: it holds no JSON object.
    """
    if record.value is None and not _is_binary(record):
        return None
    try:
        event = orjson.loads(record.value or b"null")
    except orjson.JSONDecodeError:
        return None
    if _is_binary(record):
        return orjson.dumps(_structured(record, event))
    if not isinstance(event, dict):
        return None
    assert record.value is not None
    return orjson.dumps(event) if b"\n" in record.value or b"\r" in record.value else record.value


def outline(record: StoredRecord) -> Text:
    """When, where, what, whom, and the data in short."""
    line = Text(overflow="ellipsis", no_wrap=True)
    line.append(f"{time_text(record.time_ms)}  ", style="dim")
    line.append(f"{record.partition}@{record.offset}".ljust(8), style="dim")
    whole = event_line(record)
    if whole is None:
        unreadable = next((text for name, text in record.headers if name == UNREADABLE), None)
        what = "a tombstone" if record.value is None else f"no event: {len(record.value):,} bytes"
        what = what if unreadable is None else preview(unreadable)
        return line.append(f"({what})  {_key(record)}", style="yellow")
    event: dict[str, Any] = orjson.loads(whole)
    line.append(f"{_text(event.get('type', '(no type)'))}  ", style="bold cyan")
    whom = [_text(event[name]) for name in ("partitionkey", "subject") if event.get(name) is not None]
    line.append(f"{'/'.join(dict.fromkeys(whom)) or _key(record)}  ")
    data = event.get("data")
    if isinstance(data, dict):
        line.append("  ".join(_field(name, data[name]) for name in data if name not in _BEHIND_THE_SCENES), style="dim")
    return line


def preview(value: bytes | None, *, chars_max: int = VALUE_CHARS_MAX) -> str:
    """The beginning of a value as text that no terminal obeys."""
    if value is None:
        return "(no value)"
    text = visible(value[: 4 * chars_max].decode("utf-8", errors="replace"))
    return text if len(text) <= chars_max else f"{text[:chars_max]}..."


def _field(name: str, value: Any) -> str:
    return f"{_text(name)}={_text(value)}"


def _text(value: Any) -> str:
    text = visible(value if isinstance(value, str) else orjson.dumps(value).decode())
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}..."


def _key(record: StoredRecord) -> str:
    return "" if record.key is None else f"key {preview(record.key)}"


def _is_binary(record: StoredRecord) -> bool:
    return any(name == "ce_specversion" for name, _ in record.headers)


def _structured(record: StoredRecord, data: Any) -> dict[str, Any]:
    """A binary-mode event as the structured one that it stands for."""
    event: dict[str, Any] = {
        name.removeprefix("ce_"): value.decode("utf-8", errors="replace")
        for name, value in record.headers
        if name.startswith("ce_")
    }
    if record.value is not None:
        event["data"] = data
    return event

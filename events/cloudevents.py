"""CloudEvents 1.0 in JSON: bytes and headers to a checked envelope, and an envelope to canonical bytes.

Structured mode (the value is the whole event) and, on input, binary mode (``ce_*`` headers, the value is ``data``).
What the envelope says is checked here: sizes, ids, times. What ``data`` means is ``events/decode.py``'s business.
A record that cannot be used raises ``BadInputError``; where it goes then is decided by the lane.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Final, Literal, NoReturn, TypeAlias

import orjson
from msgspec import Meta, Struct, ValidationError, convert

from events.adapter import UNREADABLE
from events.log import Headers
from events.times import format_time, parse_time
from events.topics import INPUT_BYTES_MAX
from events.wire import ID_CHARS_MAX, OUR_ID_CHARS_MAX

DEPTH_MAX: Final = 64  #: objects and arrays inside one another
SOURCE_CHARS_MAX: Final = 1024
DEFAULT_WORKSPACE: Final = "default"
STRUCTURED: Final = "application/cloudevents+json"
STRUCTURED_HEADERS: Final[Headers] = (("content-type", STRUCTURED.encode()),)

Reason: TypeAlias = Literal[
    "not-json",  # no value, no UTF-8, NaN, lone surrogates, or anything else that RFC 8259 does not have
    "not-an-object",  # JSON, but no object (a batch of events among others)
    "too-large",  # over the limit in bytes; or what it leads to does not fit into one append
    "too-deep",  # more than DEPTH_MAX objects and arrays inside one another
    "duplicate-keys",  # an object, or the headers, name one thing twice: readers would disagree on which holds
    "bad-envelope",  # a CloudEvents attribute is missing or wrong, or its dataschema is not known
    "unknown-type",  # no event type of this topic
    "bad-data",  # ``data`` does not have what the type's contract says
    "no-contact",  # neither partitionkey nor data.contact.id nor a key says whom it concerns
    "key-mismatch",  # partitionkey names another contact than data.contact.id, or another workspace than workspace
    "unknown-workspace",  # no policy for this workspace
    "wrong-partition",  # on another partition than its key's, and it cannot be moved (again)
    "no-open-conversation",  # it names no conversation and the contact has none that is open
    "unreadable",  # the log could not read the batch that it stands in; ``detail`` names the offsets
    "fault",  # a fault of ours: it would stop the lane at each attempt
]


class BadInputError(Exception):
    """A record that never becomes usable by trying again. ``detail`` says what to do and never quotes the record."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Envelope(Struct, frozen=True, kw_only=True):
    """A CloudEvent whose attributes were checked; ``data`` is still plain JSON."""

    id: str
    source: str
    type: str
    subject: str | None
    time_ms: int | None  #: Unix milliseconds; None: the producer said none
    dataschema: str | None
    partitionkey: str | None
    workspace: str | None  #: None: the producer said none, which mostly means ``default``
    data: dict[str, Any]


_Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=SOURCE_CHARS_MAX)]
_OurIdText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=OUR_ID_CHARS_MAX)]
_IdText: TypeAlias = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]


class _Attributes(Struct, frozen=True, kw_only=True):
    """The attributes as they mostly stand on the wire. One that is null is absent (CloudEvents JSON format, 2.1)."""

    specversion: str
    id: _OurIdText
    source: _Text
    type: _Text
    subject: _IdText | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: _Text | None = None
    partitionkey: _IdText | None = None
    workspace: _IdText | None = None
    data: Any = None
    data_base64: Any = None


class _NumberedAttributes(_Attributes, frozen=True, kw_only=True):
    """The same where ids may be whole numbers."""

    id: _OurIdText | int  # type: ignore[assignment]
    subject: _IdText | int | None = None  # type: ignore[assignment]
    partitionkey: _IdText | int | None = None  # type: ignore[assignment]
    workspace: _IdText | int | None = None  # type: ignore[assignment]


_ID_ATTRIBUTES: Final = ("id", "subject", "partitionkey", "workspace")


def open_envelope(
    value: bytes | None,
    headers: Headers = (),
    *,
    bytes_max: int = INPUT_BYTES_MAX,
    id_chars_max: int = ID_CHARS_MAX,
) -> Envelope:
    """The CloudEvent that a record's value and headers hold; raises ``BadInputError``.

    Binary mode is what has a ``ce_specversion`` header and no CloudEvents content type. ``bytes_max`` is the limit of
    the value, in binary mode of value and headers. ``id_chars_max`` is the limit of the event's own id; subject,
    partitionkey and workspace always have that of ids of others.
    """
    size_bytes = len(value) if value is not None else 0
    header_bytes = 0
    content_type = None
    binary = False
    for name, header in headers:
        header_bytes += len(name) + len(header)
        if name == "ce_specversion":
            binary = True
        elif name == UNREADABLE:
            raise BadInputError("unreadable", header.decode(errors="replace"))
        elif name.lower() == "content-type":
            content_type = header
    if content_type is not None and content_type[:23].lower() == b"application/cloudevents":
        _refuse_other_formats(content_type)
    elif binary:
        _refuse_larger(size_bytes + header_bytes, bytes_max, " with headers")
        return _checked(_binary(value, headers, content_type), id_chars_max)
    _refuse_larger(size_bytes, bytes_max)
    return _checked(parse_object(value), id_chars_max)


def _refuse_larger(size_bytes: int, bytes_max: int, what: str = "") -> None:
    if size_bytes > bytes_max:
        raise BadInputError("too-large", f"{size_bytes:,} bytes{what}; at most {bytes_max:,} are taken")


def _refuse_other_formats(content_type: bytes) -> None:
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type.startswith(b"application/cloudevents-batch"):
        raise BadInputError("bad-envelope", "a batch of events: send each event as a record of its own")
    if media_type not in {b"application/cloudevents", STRUCTURED.encode()}:
        raise BadInputError("bad-envelope", f"content-type: of the CloudEvents formats only {STRUCTURED} is taken")


def _binary(value: bytes | None, headers: Headers, content_type: bytes | None) -> dict[str, Any]:
    """Binary mode as an object in structured mode."""
    attributes: dict[str, Any] = {}
    for name, header in headers:
        if not name.startswith("ce_"):
            continue
        if name in attributes:
            raise BadInputError("duplicate-keys", "a ce_ header stands there twice: send it once")
        attributes[name] = _text(header)
    attributes = {name[3:]: text for name, text in attributes.items()}
    attributes.pop("data_base64", None)
    attributes["data"] = parse_object(value) if value else None
    if content_type is not None:
        attributes["datacontenttype"] = _text(content_type)
    return attributes


def _text(header: bytes) -> str:
    try:
        return header.decode("utf-8", errors="strict")
    except UnicodeDecodeError:
        raise BadInputError("bad-envelope", "a header is not UTF-8: encode the ce_ headers as UTF-8") from None


def _checked(attributes: dict[str, Any], id_chars_max: int) -> Envelope:
    try:
        wire = convert(attributes, _Attributes)
    except ValidationError:
        wire = convert(_with_text_ids(attributes), _Attributes)
    _check_texts(wire, id_chars_max)
    data = wire.data
    if data is None:
        data = {}
    elif data.__class__ is not dict:
        raise BadInputError("bad-data", "data: must be a JSON object")
    return Envelope(
        id=wire.id,
        source=wire.source,
        type=wire.type,
        subject=wire.subject,
        time_ms=None if wire.time is None else checked_time(wire.time, "time", "bad-envelope"),
        dataschema=wire.dataschema,
        partitionkey=wire.partitionkey,
        workspace=wire.workspace,
        data=data,
    )


def _with_text_ids(attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes with whole numbers among the ids as text; says what is wrong with them if that is not all."""
    if "specversion" not in attributes:
        raise BadInputError("bad-envelope", 'no specversion: only CloudEvents ("specversion": "1.0") are taken')
    try:
        convert(attributes, _NumberedAttributes)
    except ValidationError as error:
        raise BadInputError("bad-envelope", explain(error)) from None
    ids = {name: attributes[name] for name in _ID_ATTRIBUTES if attributes.get(name) is not None}
    return {**attributes, **{name: str(value) for name, value in ids.items()}}


def _check_texts(wire: _Attributes, id_chars_max: int) -> None:
    """What holds of the attributes beyond their types and lengths."""
    if wire.specversion != "1.0":
        raise BadInputError("bad-envelope", "specversion: only 1.0 is known")
    if wire.datacontenttype is not None and wire.datacontenttype != "application/json":
        _require_json(wire.datacontenttype)
    if wire.data_base64 is not None:
        raise BadInputError("bad-envelope", "data_base64: put the data as a JSON object under data")
    if len(wire.id) > id_chars_max:
        raise BadInputError("bad-envelope", f"id: more than {id_chars_max} characters")
    if not f"{wire.id}{wire.source}{wire.subject}{wire.partitionkey}{wire.workspace}".isprintable():
        for name in ("source", *_ID_ATTRIBUTES):
            plain_id(getattr(wire, name) or "", name, "bad-envelope")


def _require_json(content: str) -> None:
    media_type = content.partition(";")[0].strip().lower()
    if media_type not in {"application/json", "text/json"} and not media_type.endswith("+json"):
        raise BadInputError("bad-envelope", "datacontenttype: only JSON data is taken, application/json")


_controls: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]").search


def plain_id(value: str | int, field: str, reason: Reason) -> str:
    """An id as text: whole numbers become decimal strings; control characters raise ``BadInputError``."""
    if value.__class__ is int:
        return str(value)
    assert isinstance(value, str)
    if not value.isprintable() and _controls(value) is not None:
        raise BadInputError(reason, f"{field}: holds a control character such as a null byte: leave it out")
    return value


def checked_time(text: str, field: str, reason: Reason) -> int:
    """RFC 3339 text of a field as Unix milliseconds; raises ``BadInputError``."""
    try:
        return parse_time(text)
    except ValueError as error:
        raise BadInputError(reason, f"{field}: {error}") from None


def explain(error: ValidationError, within: str = "") -> str:
    """A ``ValidationError`` as a sentence that names the field and, for ids, the fix. It quotes no value.

    ``within`` is the field that the whole value stood in; fields are named from there.
    """
    problem, separator, path = str(error).partition(" - at `$.")
    names = [name for name in (within, path.rstrip("`") if separator else "") if name]
    field = f"{'.'.join(names)}: " if names else ""
    if "`int | str" in problem and problem.endswith(("`float`", "`bool`")):
        problem = "an id is a string, or a whole number of at most 64 bits: send it as a string"
    return f"{field}{problem[:1].lower()}{problem[1:]}"


def parse_object(raw: bytes | None) -> dict[str, Any]:
    """The one JSON object that ``raw`` is, read strictly; raises ``BadInputError``. Sizes are the caller's business."""
    if raw is None:
        raise BadInputError("not-json", "the record has no value (a tombstone): send an event")
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _depth(raw) > DEPTH_MAX:
        raise BadInputError("too-deep", f"more than {DEPTH_MAX} objects and arrays inside one another")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadInputError("not-json", f"{error}") from None
    if value.__class__ is not dict:
        _refuse_non_object(value)
    plain = orjson.dumps(value)
    if plain != raw:
        _refuse_duplicate_keys(raw, plain)
    return value


def _refuse_non_object(value: Any) -> NoReturn:
    if isinstance(value, list):
        raise BadInputError("not-an-object", "a JSON array: batches are not taken, send each event by itself")
    raise BadInputError("not-an-object", "JSON, but no object: send one CloudEvent")


def _refuse_duplicate_keys(raw: bytes, plain: bytes) -> None:
    """Raise ``BadInputError`` if an object in ``raw`` names a key twice; ``plain`` is ``raw`` read and written again.

    The reader keeps the last one silently. Every member has one colon, and colons inside strings survive the way there
    and back, so a dropped member shows as fewer colons. Escaped colons appear out of nothing: then each object is seen.
    """
    if raw.count(b":") != plain.count(b":") or b"\\u003" in raw:
        json.loads(raw, object_pairs_hook=_unique, parse_int=str, parse_float=str)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise BadInputError("duplicate-keys", "an object names a key twice: send each key once")


_tokens: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL).finditer


def _depth(raw: bytes) -> int:
    """How deep objects and arrays lie inside one another, counted without parsing: no text makes it recurse."""
    depth = deepest = 0
    for token in _tokens(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def envelope(
    *,
    id: str,
    source: str,
    type: str,
    subject: str | None,
    time_ms: int,
    partitionkey: str | None,
    workspace: str | None,
    data: Mapping[str, Any],
    expiry_ms: int | None = None,
    version: int = 1,
) -> bytes:
    """An event of ours as canonical bytes: structured mode, attributes in one order, no blanks.

    ``time_ms`` and ``expiry_ms`` are Unix milliseconds, ``version`` is that of the data's schema. Attributes that are
    None are left out. The order of the members of ``data`` is the caller's: the bytes are hashed.
    """
    event: dict[str, Any] = {"specversion": "1.0", "id": id, "source": source, "type": type}
    if subject is not None:
        event["subject"] = subject
    event["time"] = format_time(time_ms)
    event["datacontenttype"] = "application/json"
    event["dataschema"] = _schema(type, version)
    if partitionkey is not None:
        event["partitionkey"] = partitionkey
    if workspace is not None:
        event["workspace"] = workspace
    if expiry_ms is not None:
        event["expirytime"] = format_time(expiry_ms)
    event["data"] = data
    return orjson.dumps(event)


@lru_cache(maxsize=1024)
def _schema(type: str, version: int) -> str:
    return f"urn:vip-router:{type}:{version}"

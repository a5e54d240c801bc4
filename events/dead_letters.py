"""Dead letters: records that cannot be used, kept with the reason and with their bytes as they were.

Whether a record becomes one is the lane's decision, sending one again the command line's.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any, Final

import orjson
from msgspec import Struct, ValidationError, convert, to_builtins

from events import wire
from events.cloudevents import STRUCTURED_HEADERS, BadInputError, envelope, explain, open_envelope
from events.ids import DEAD_LETTERS_SOURCE, dead_letter_id
from events.log import Headers, NewRecord, StoredRecord
from events.topics import DEAD_LETTERS, RECORD_BYTES_MAX

TYPE: Final = "dead.letter"
CONTENT_BYTES_MAX: Final = 700 * 1024  #: of key, value and headers; what is more does not fit in base64
HEADER_BYTES: Final = 32  #: counted for each header besides: what JSON adds to it
DETAIL_CHARS_MAX: Final = 1000


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A record that could not be used, why, and where it stands."""

    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    value_bytes: int | None  #: set where the value was too large to be kept here: it stands in its topic alone
    time_ms: int  #: when it was set aside, Unix milliseconds

    def record(self) -> NewRecord:
        """The record as it was, to be sent again; ``ValueError`` if it was too large to be kept."""
        if self.value_bytes is not None:
            raise ValueError(f"its {self.value_bytes:,} bytes stand only at offset {self.offset} of {self.topic}")
        return NewRecord(self.topic, self.partition, self.key, self.value, self.headers)


def dead_letter(
    record: StoredRecord,
    reason: str,
    detail: str,
    *,
    now_ms: int,
    partitions: int | None = None,
    workspace: str | None = None,
) -> NewRecord:
    """A record for ``dead-letters``: the same key and partition, modulo ``partitions`` if that many are there.

    ``detail`` must not quote the record: it is shown to people and written to program logs. A record of more than
    ``CONTENT_BYTES_MAX`` is named but not held, without its headers, and its key only if that fits.
    """
    whole = _content_bytes(record) <= CONTENT_BYTES_MAX
    key = record.key if whole or record.key is None or len(record.key) <= wire.ID_CHARS_MAX else None
    letter = wire.DeadLetter(
        reason=reason,
        detail=detail[:DETAIL_CHARS_MAX],
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        key_base64=_encoded(key),
        value_base64=_encoded(record.value) if whole else None,
        value_bytes=None if whole else len(record.value or b""),
        headers=_encoded_headers(record.headers) if whole else [],
    )
    data: dict[str, Any] = to_builtins(letter)
    partition = record.partition if partitions is None else record.partition % partitions
    value = envelope(
        id=dead_letter_id(record.topic, record.partition, record.offset),
        source=DEAD_LETTERS_SOURCE,
        type=TYPE,
        subject=None,
        time_ms=now_ms,
        partitionkey=None,
        workspace=workspace,
        data=data,
    )
    return NewRecord(DEAD_LETTERS, partition, key, value, STRUCTURED_HEADERS)


def parse_dead_letter(record: StoredRecord) -> DeadLetter:
    """What ``dead_letter`` made a record of; raises ``BadInputError`` if it is no dead letter."""
    event = open_envelope(record.value, record.headers, bytes_max=RECORD_BYTES_MAX, id_chars_max=wire.OUR_ID_CHARS_MAX)
    if event.type != TYPE:
        raise BadInputError("unknown-type", f"type: only {TYPE} belongs on {DEAD_LETTERS}")
    try:
        letter = convert(event.data, wire.DeadLetter)
        return DeadLetter(
            reason=letter.reason,
            detail=letter.detail,
            topic=letter.topic,
            partition=letter.partition,
            offset=letter.offset,
            key=_decoded(letter.key_base64),
            value=_decoded(letter.value_base64),
            headers=tuple((header.name, b64decode(header.value_base64, validate=True)) for header in letter.headers),
            value_bytes=letter.value_bytes,
            time_ms=record.time_ms if event.time_ms is None else event.time_ms,
        )
    except ValidationError as error:
        raise BadInputError("bad-data", explain(error, "data")) from None
    except ValueError:
        raise BadInputError("bad-data", "data: key_base64, value_base64 and headers must be base64") from None


def _content_bytes(record: StoredRecord) -> int:
    headers = sum(HEADER_BYTES + len(orjson.dumps(name)) + len(value) for name, value in record.headers)
    return 2 * len(record.key or b"") + len(record.value or b"") + headers  # the key is the letter's own key, too


def _encoded(content: bytes | None) -> str | None:
    return None if content is None else b64encode(content).decode("ascii")


def _encoded_headers(headers: Headers) -> list[wire.Header]:
    return [wire.Header(name=name, value_base64=b64encode(value).decode("ascii")) for name, value in headers]


def _decoded(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text, validate=True)

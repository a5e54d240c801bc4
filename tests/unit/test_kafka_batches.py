"""What a fetch brought: records out of batches, whatever the batches hold."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Final

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from events.adapter import UNREADABLE
from events.cloudevents import BadInputError, open_envelope
from events.kafka import batches as kafka_batches
from events.kafka import codecs as kafka_codecs
from events.kafka.batches import Span, Unreadable, stand_in
from events.kafka.codecs import CodecError, decompressed
from events.log import StoredRecord, TopicPartition

PLACE: Final = TopicPartition("conversations.events", 3)
ATTRIBUTES: Final = 21  #: where a batch has its attributes; the checksum covers all from here on
CRC: Final = 17
RECORDS: Final = 61


def batch(
    first: int,
    *values: bytes | None,
    gzipped: bool = False,
    transaction_of: int | None = None,
    key: bytes | None = b"k",
) -> bytes:
    """A batch as a broker sends it, its offsets from ``first`` on."""
    builder = DefaultRecordBatchBuilder(
        2,
        1 if gzipped else 0,
        is_transactional=transaction_of is not None,
        producer_id=-1 if transaction_of is None else transaction_of,
        producer_epoch=0,
        base_sequence=0,
        batch_size=10_000_000,
    )
    for number, value in enumerate(values):
        assert builder.append(number, timestamp=1_000 + number, key=key, value=value, headers=[("h", b"v")]) is not None
    return struct.pack(">q", first) + bytes(builder.build())[8:]


def with_attributes(content: bytes, attributes: int) -> bytes:
    """The batch with other attributes and the checksum that they need."""
    covered = struct.pack(">h", attributes) + content[ATTRIBUTES + 2 :]
    return content[:CRC] + struct.pack(">I", calc_crc32c(covered)) + covered


def with_payload(content: bytes, payload: bytes, attributes: int) -> bytes:
    """The batch with another payload, its length and checksum put right."""
    longer = content[:8] + struct.pack(">i", RECORDS - 12 + len(payload)) + content[12:RECORDS] + payload
    return with_attributes(longer, attributes)


def all_of(span: Span, *, records_max: int = 100) -> list[StoredRecord | Unreadable]:
    found: list[StoredRecord | Unreadable] = []
    while True:
        taken = span.take(records_max)
        if isinstance(taken, Unreadable):
            found.append(taken)
        elif taken:
            assert len(taken) <= records_max
            found.extend(taken)
        else:
            return found


def offsets(found: Sequence[StoredRecord | Unreadable]) -> list[int]:
    return [each.offset for each in found]


@pytest.mark.parametrize("records_max", [1, 2, 3, 100])
def test_records_come_in_order_and_the_position_follows(records_max: int) -> None:
    """Batches become records, however many are taken at once; the cut-off end of an answer is left for the next."""
    data = batch(5, b"a", b"b", gzipped=True) + batch(9, b"c", None) + batch(11, b"cut")[:-3]
    span = Span(PLACE, 5, data)
    found = all_of(span, records_max=records_max)
    assert [(each.offset, each.value, each.time_ms) for each in found if isinstance(each, StoredRecord)] == [
        (5, b"a", 1_000),
        (6, b"b", 1_001),
        (9, b"c", 1_000),
        (10, None, 1_001),
    ]
    assert span.offset_next == 11
    assert span.is_empty


def test_reading_begins_inside_a_batch() -> None:
    """A batch comes whole; what lies below the wanted offset is left out."""
    assert offsets(all_of(Span(PLACE, 7, batch(5, b"a", b"b", b"c", b"d")))) == [7, 8]


@pytest.mark.parametrize(("to", "left"), [(6, [6, 7, 8, 9]), (7, [7, 8, 9]), (8, [8, 9]), (9, [9])])
def test_a_seek_forward_keeps_what_lies_behind_it(to: int, left: list[int]) -> None:
    """Passing over records does not need them decoded; those behind are still there."""
    span = Span(PLACE, 5, batch(5, b"a", b"b", b"c") + batch(8, b"d", b"e"))
    first = span.take(1)
    assert not isinstance(first, Unreadable)
    assert offsets(first) == [5]
    assert span.skip_to(to)
    assert offsets(all_of(span)) == left


@pytest.mark.parametrize("to", [3, 10, 20])
def test_a_seek_out_of_the_stretch_drops_it(to: int) -> None:
    """Before what is left or behind all of it there is nothing to keep."""
    span = Span(PLACE, 5, batch(5, b"a", b"b", b"c") + batch(8, b"d", b"e"))
    assert not span.skip_to(to)


def test_passed_batches_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lane wrote itself and seeks past costs a look at the header."""
    data = batch(5, b"a", b"b") + batch(7, b"c")
    monkeypatch.setattr(kafka_batches, "DefaultRecordBatch", None)
    assert Span(PLACE, 5, data).skip_to(7)
    assert not Span(PLACE, 5, data).skip_to(8)


DAMAGE: Final = {
    "checksum": (lambda good: good[:-1] + bytes([good[-1] ^ 1]), "checksum"),
    "unknown codec": (lambda good: with_attributes(good, 7), "codec 7"),
    "no gzip": (lambda good: with_attributes(good, 1), "gzip payload is damaged"),
    "gzip cut off": (lambda good: with_payload(good, gzip.compress(b"x" * 1000)[:-20], 1), "cut off"),
    "bomb": (lambda good: with_payload(good, gzip.compress(b"\0" * 40_000_000), 1), "more than 33,554,432 bytes"),
    "wrong count": (lambda good: with_attributes(good[:57] + struct.pack(">i", 9) + good[61:], 0), "damaged"),
    "old format": (lambda good: good[:16] + b"\1" + good[17:], "format 1"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_an_unreadable_batch_stands_alone(damage: str) -> None:
    """One batch that cannot be read is named with its offsets; those before and behind it are read."""
    spoil, why = DAMAGE[damage]
    span = Span(PLACE, 5, batch(5, b"a") + spoil(batch(6, b"b", b"c", b"d")) + batch(9, b"e"))
    first, bad, *rest = all_of(span)
    assert isinstance(first, StoredRecord)
    assert isinstance(bad, Unreadable)
    assert (first.offset, bad.offset) == (5, 6)
    assert why in bad.why
    if damage != "old format":  # whose header says nothing of how many there are
        assert bad.offset_next == 9
        assert offsets(rest) == [9]


def test_what_stands_for_an_unreadable_batch_becomes_a_dead_letter() -> None:
    """It has the batch's last offset, so that whoever has it has passed all; its text names the range."""
    record = stand_in(PLACE, Unreadable(6, 9, "its checksum is wrong"))
    assert (record.offset, record.value, record.headers[0][0]) == (8, None, UNREADABLE)
    with pytest.raises(BadInputError, match="offsets 6 to 8 cannot be read: its checksum is wrong") as caught:
        open_envelope(record.value, record.headers)
    assert caught.value.reason == "unreadable"


def marker(at: int, producer: int, *, abort: bool) -> bytes:
    content = batch(at, struct.pack(">hi", 0, 0), transaction_of=producer, key=struct.pack(">hh", 0, 0 if abort else 1))
    return with_attributes(content, 0x30)


def test_aborted_transactions_are_left_out() -> None:
    """Records of a transaction that was aborted do not come, those of another one, or of a later one, do."""
    data = (
        batch(0, b"aborted", transaction_of=7)
        + batch(1, b"kept", transaction_of=8)
        + marker(2, 7, abort=True)
        + marker(3, 8, abort=False)
        + batch(4, b"later", transaction_of=7)
        + marker(5, 7, abort=False)
    )
    span = Span(PLACE, 0, data, [(7, 0)])
    assert offsets(all_of(span)) == [1, 4]
    assert span.offset_next == 6
    assert offsets(all_of(Span(PLACE, 0, data))) == [0, 1, 4]


def test_a_header_without_a_value_is_empty() -> None:
    """Kafka lets a header have no value; nobody here reads None."""
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=1_000
    )
    builder.append(0, timestamp=1, key=None, value=b"x", headers=[("none", None), ("some", b"s")])
    (record,) = all_of(Span(PLACE, 0, bytes(builder.build())))
    assert isinstance(record, StoredRecord)
    assert record.headers == (("none", b""), ("some", b"s"))


def test_other_codecs_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is missing the reason says what to install."""
    monkeypatch.setattr(kafka_codecs, "_library", lambda: None)
    with pytest.raises(CodecError, match="zstd: install the package cramjam"):
        decompressed(kafka_codecs.ZSTD, b"x", bytes_max=100)


class FakeError(Exception):
    pass


def unpack_run(payload: bytes, plain: bytearray) -> int:
    """A codec that packs a run of one byte as (byte, 4 bytes of length): as much as a bomb needs."""
    size = int.from_bytes(payload[1:5], "big")
    if payload[:1] == b"!":
        raise FakeError("Unknown frame descriptor")
    if size > len(plain):
        raise FakeError("failed to write whole buffer")  # cramjam's words
    plain[:size] = payload[:1] * size
    return size


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b"a" + (3).to_bytes(4, "big"), b"aaa"),
        (b"a" + (90).to_bytes(4, "big"), b"a" * 90),
        (b"a" + (101).to_bytes(4, "big"), "more than 100 bytes"),
        (b"!" + (3).to_bytes(4, "big"), "damaged"),
    ],
)
def test_no_codec_grows_beyond_its_limit(payload: bytes, outcome: bytes | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first guess of the size is small; a larger one is tried once; more is refused."""
    library = SimpleNamespace(DecompressionError=FakeError, zstd=SimpleNamespace(decompress_into=unpack_run))
    monkeypatch.setattr(kafka_codecs, "_library", lambda: library)
    if isinstance(outcome, bytes):
        assert decompressed(kafka_codecs.ZSTD, payload, bytes_max=100) == outcome
    else:
        with pytest.raises(CodecError, match=outcome):
            decompressed(kafka_codecs.ZSTD, payload, bytes_max=100)

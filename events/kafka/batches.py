"""What a fetch brought for one partition: record batches, turned into records a batch at a time.

A batch below the wanted offset is passed by its header alone. One that cannot be read (damaged, unknown codec, too
large when decompressed) stands out as ``Unreadable``; what becomes of it is the reader's business. Transactions that
were aborted are left out where the broker named them. Which records of a log exist says ``events/kafka/existing.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch

from events.adapter import UNREADABLE
from events.kafka.codecs import CodecError, decompressed
from events.log import Headers, StoredRecord, TopicPartition

DECOMPRESSED_BYTES_MAX: Final = 32 * 1024 * 1024  #: of one batch; topics of ours take a thirtieth of it

_HEADER: Final = struct.Struct(">qiibIhiqqqhii")  #: of a batch, Kafka's message format 2
_OVERHEAD: Final = 12  #: base offset and length stand before what the length counts
_CODEC: Final = 0x07
_TRANSACTIONAL: Final = 0x10
_CONTROL: Final = 0x20
_MAGIC: Final = 2
_NO_CODEC_MASK: Final = ~_CODEC

Exists = Callable[[Sequence[StoredRecord]], Sequence[StoredRecord]]  #: leaves out what does not exist


class Unreadable(NamedTuple):
    """A batch that cannot be read. ``offset_next`` is the first offset behind it."""

    offset: int
    offset_next: int
    why: str  #: a sentence without a full stop; quotes nothing of the batch


class _Batch(NamedTuple):
    """What the header of a batch says, and where it lies."""

    begin: int
    end: int
    base_offset: int
    offset_next: int
    magic: int
    attributes: int
    max_time_ms: int
    producer_id: int


class Span:
    """The batches of one partition that one fetch brought, from ``offset`` on.

    ``aborted``: (producer id, first offset) of transactions to leave out. ``exists``: for logs, what a record must
    keep to exist. ``size_bytes`` is what the span holds in memory, about.
    """

    def __init__(
        self,
        place: TopicPartition,
        offset: int,
        data: bytes,
        aborted: Sequence[tuple[int, int]] = (),
        exists: Exists | None = None,
    ) -> None:
        self.offset_next = offset  #: where ``take`` goes on, also past what was left out
        self.size_bytes = len(data)
        self._place = place
        self._data = data
        self._exists = exists
        self._position = 0
        self._ready: Sequence[StoredRecord] = ()
        self._given = 0
        self._aborted = sorted(aborted, key=lambda each: each[1], reverse=True)
        self._aborting: set[int] = set()
        self._behind = offset  #: the offset after what ``_ready`` came from

    def skip_to(self, offset: int) -> bool:
        """Go on at ``offset`` instead; False if that lies before what is left, or behind all there is."""
        if offset < self.offset_next:
            return False
        while self._given < len(self._ready) and self._ready[self._given].offset < offset:
            self._given += 1
        self.offset_next = offset
        return self._given < len(self._ready) or self._next_batch() is not None

    def take(self, records_max: int) -> Sequence[StoredRecord] | Unreadable:
        """The next records, at most ``records_max``; none: nothing is left. ``Unreadable`` comes alone."""
        while self._given >= len(self._ready):
            self.offset_next = max(self.offset_next, self._behind)
            batch = self._next_batch()
            if batch is None:
                self._data = b""
                return ()
            bad = self._read(batch)
            if bad is not None:
                return bad
        taken = self._ready[self._given : self._given + records_max]
        self._given += len(taken)
        self.offset_next = taken[-1].offset + 1 if self._given < len(self._ready) else self._behind
        return taken

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left, as far as the headers tell."""
        return self._given >= len(self._ready) and self._next_batch() is None

    def _next_batch(self) -> _Batch | None:
        """The next batch that reaches to ``offset_next``; None at the end. The last one may be cut off."""
        while True:
            batch = _batch_at(self._data, self._position)
            if batch is None:
                return None
            if batch.offset_next > self.offset_next or batch.attributes & _CONTROL:
                return batch
            self._position = batch.end

    def _read(self, batch: _Batch) -> Unreadable | None:
        self._position = batch.end
        first = self.offset_next
        self.offset_next = self._behind = max(batch.offset_next, first)
        self._ready, self._given = (), 0
        try:
            if not self._is_left_out(batch):
                self._ready = self._records(batch, first)
        except CodecError as error:
            return Unreadable(max(batch.base_offset, first), self.offset_next, str(error))
        except Exception as error:  # noqa: BLE001  # whatever the bytes of others make the decoder raise
            why = f"its records are damaged ({type(error).__name__})"
            return Unreadable(max(batch.base_offset, first), self.offset_next, why)
        if self._exists is not None and self._ready:
            self._ready = self._exists(self._ready)
        return None

    def _is_left_out(self, batch: _Batch) -> bool:
        """Whether it is a marker, or belongs to a transaction that was aborted."""
        while self._aborted and self._aborted[-1][1] <= batch.base_offset:
            self._aborting.add(self._aborted.pop()[0])
        if batch.attributes & _CONTROL:
            marker = next(iter(DefaultRecordBatch(self._data[batch.begin : batch.end])), None)
            if marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER:
                self._aborting.discard(batch.producer_id)
            return True
        return bool(batch.attributes & _TRANSACTIONAL) and batch.producer_id in self._aborting

    def _records(self, batch: _Batch, first: int) -> list[StoredRecord]:
        if batch.magic != _MAGIC:
            raise CodecError(f"it has message format {batch.magic}: only format 2 (Kafka 0.11 and newer) is read")
        content = self._data[batch.begin : batch.end]
        records = DefaultRecordBatch(content)
        if not records.validate_crc():
            raise CodecError("its checksum is wrong")
        if batch.attributes & _CODEC:
            records = DefaultRecordBatch(_plain(content, batch.attributes))
        topic, partition = self._place
        found = [
            StoredRecord(topic, partition, each.offset, each.key, each.value, tuple(each.headers), each.timestamp)
            for each in records
        ]
        if found and found[0].offset < first:  # a batch comes whole, also when its middle was asked for
            found = [record for record in found if record.offset >= first]
        if self._exists is not None:  # a null header is none of ours: the record does not exist
            return found
        return [_without_null(record) if record.headers else record for record in found]


def stand_in(place: TopicPartition, bad: Unreadable) -> StoredRecord:
    """The record that a reader gives in place of an unreadable batch, at its last offset, so that reading goes on."""
    last = bad.offset_next - 1
    where = f"offset {last}" if bad.offset == last else f"offsets {bad.offset} to {last}"
    text = f"the batch with {where} cannot be read: {bad.why}"
    return StoredRecord(place.topic, place.partition, last, None, None, ((UNREADABLE, text.encode()),), 0)


def _batch_at(data: bytes, begin: int) -> _Batch | None:
    if len(data) - begin < _HEADER.size:
        return None
    base, length, _epoch, magic, _crc, attributes, last_delta, _first_ms, max_ms, producer, *_ = _HEADER.unpack_from(
        data, begin
    )
    end = begin + _OVERHEAD + length
    if end > len(data) or length < _HEADER.size - _OVERHEAD:
        return None
    if magic != _MAGIC:  # an old message set: its fields lie elsewhere, but for the offset, which is its last one
        return _Batch(begin, end, base, base + 1, magic, 0, 0, -1)
    return _Batch(begin, end, base, base + max(last_delta, 0) + 1, magic, attributes, max_ms, producer)


def _plain(content: bytes, attributes: int) -> bytes:
    """The same batch without compression; its checksum was looked at before, and is not right any more."""
    plain = decompressed(attributes & _CODEC, content[_HEADER.size :], bytes_max=DECOMPRESSED_BYTES_MAX)
    fields = list(_HEADER.unpack_from(content))
    fields[1] = _HEADER.size - _OVERHEAD + len(plain)
    fields[5] = attributes & _NO_CODEC_MASK
    return _HEADER.pack(*fields) + plain


def _without_null(record: StoredRecord) -> StoredRecord:
    """Kafka lets a header have no value; for us it is empty."""
    raw: Any = record.headers
    if all(value is not None for _name, value in raw):
        return record
    headers: Headers = tuple((name, b"" if value is None else value) for name, value in raw)
    return record._replace(headers=headers)

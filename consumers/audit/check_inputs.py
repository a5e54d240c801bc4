"""The check that the input which a log record names as its cause is still the event that was decided.

Inputs are kept for days, so one that is gone breaks nothing; one that stands there as another event does. What an input
says beyond its id, type and source is in no hash, and of the log's own records ``check_causes.py`` says more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from consumers.audit.checking import Partition
from consumers.audit.reading import Seen, place_of, stream
from consumers.audit.report import BrokenError
from events.cloudevents import BadInputError, open_envelope
from events.log import Log, OffsetOutOfRangeError, StoredRecord, TopicPartition
from events.topics import RECORD_BYTES_MAX
from events.wire import OUR_ID_CHARS_MAX

_FIELDS: Final = {"id": "data.cause.id", "type": "data.input.type", "source": "data.input.source"}


class _Cursor:
    """Reads an input partition forwards, from the first record that is asked for."""

    def __init__(self, log: Log, place: TopicPartition, end: int, start: int) -> None:
        self._records: AsyncIterator[StoredRecord] = stream(log, place, end, start=start)
        self._now: StoredRecord | None = None
        self.offset = start - 1  #: what was asked for last

    async def at(self, offset: int) -> StoredRecord | None:
        """The record at an offset above the last one; None: there is none."""
        self.offset = offset
        while self._now is None or self._now.offset < offset:
            self._now = await anext(self._records, None)
            if self._now is None:
                return None
        return self._now if self._now.offset == offset else None


class Inputs:
    """Reads each input partition once, in step with the log's partition; keeps one read of each."""

    name = "causes"

    def __init__(self, log: Log, partition: Partition) -> None:
        self._log = log
        self._partition = partition
        self._cursors: dict[str, _Cursor] = {}
        self._broken: dict[str, BrokenError] = {}
        self.compared = 0  #: inputs that are still there

    async def see(self, found: Seen) -> None:
        """Look at the input that a record was decided from. What is wrong with it is told by ``finish``."""
        data = found.data
        if not found.moves:
            if "skip" in data:
                self._skip(data["skip"])
            return
        cause, told = data["cause"], data.get("input")
        if told is None or cause["topic"] is None or cause["topic"] in self._broken:
            return
        stored = await self._input(cause["topic"], cause["offset"])
        if stored is not None:
            self._compare(found, stored, {"id": cause["id"], "type": told.get("type"), "source": told.get("source")})

    def _skip(self, skip: dict[str, Any]) -> None:
        """Somebody has set the position: back, where the topic was made anew, and then the old events are gone."""
        self._cursors.pop(skip["topic"], None)
        if skip["to"] < skip["from"]:
            self._broken.pop(skip["topic"], None)

    async def _input(self, topic: str, offset: int) -> StoredRecord | None:
        cursor = self._cursors.get(topic)
        try:
            if cursor is None or offset <= cursor.offset:
                place = self._partition.at.place._replace(topic=topic)
                start = max(offset, await self._log.start_offset(place))
                cursor = _Cursor(self._log, place, self._partition.input_ends[topic], start)
                self._cursors[topic] = cursor
            return await cursor.at(offset)
        except OffsetOutOfRangeError:  # the topic loses its beginning while we read
            self._cursors.pop(topic, None)
            return None

    def _compare(self, found: Seen, stored: StoredRecord, expected: dict[str, Any]) -> None:
        where = f"{stored.topic}/{stored.partition} at offset {stored.offset}"
        try:
            event = open_envelope(
                stored.value, stored.headers, bytes_max=RECORD_BYTES_MAX, id_chars_max=OUR_ID_CHARS_MAX
            )
        except BadInputError as error:
            if error.reason != "unreadable":
                sentence = f"what stands where its input stood, {where}, is no event: {error.reason}"
                self._broken[stored.topic] = BrokenError(sentence, place=place_of(found.stored), check=self.name)
            return
        self.compared += 1
        for name, field in _FIELDS.items():
            there = getattr(event, name)
            if there != expected[name]:
                self._broken[stored.topic] = BrokenError(
                    f"another event stands where its input stood, {where}",
                    field=field, expected=expected[name], found=there, place=place_of(found.stored), check=self.name,
                )  # fmt: skip
                return

    def finish(self) -> None:
        """No input was another."""
        for broken in self._broken.values():
            raise broken

"""Which records of a log on Kafka exist: the half of the conditional append that every reader does.

A record whose offset is not the one that its writer expected does not exist; nor does one that names another log than
the record at offset 0 does. Both are dropped and counted. A record that does not follow its predecessor (``after``) is
the lane's business (``events/chain.py``), who may write is the broker's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from events.chain import EXPECTED_OFFSET, LOG_ID, ChainError
from events.log import LogError, StoredRecord, TopicPartition

logger = logging.getLogger(__name__)

TELL_EVERY: Final = 1_000  #: dropped records of a partition between two lines of the log

ReadFirst = Callable[[TopicPartition], Awaitable[StoredRecord | None]]


class Existing:
    """The rule of one partition of a log."""

    def __init__(self, place: TopicPartition, log_id: bytes) -> None:
        self.log_id = log_id
        self.fenced_records = 0  #: that do not exist, each counted once
        self.is_in_doubt = False  #: a record stood where it was expected, but names another log
        self._place = place
        self._counted_to = 0

    def __call__(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """Those of ``records`` that exist."""
        log_id = self.log_id
        if all(
            len(headers) > 1 and headers[0] == (EXPECTED_OFFSET, b"%d" % offset) and headers[1] == (LOG_ID, log_id)
            for _topic, _partition, offset, _key, _value, headers, _time_ms in records
        ):
            return records  # as nearly always, and in the order in which ``chain.seal`` writes them
        found = [record for record in records if self._exists(record)]
        self._count([record.offset for record in records], {record.offset for record in found})
        return found

    def _exists(self, record: StoredRecord) -> bool:
        headers = dict(record.headers)
        if headers.get(EXPECTED_OFFSET) != b"%d" % record.offset:
            return False
        if headers.get(LOG_ID) == self.log_id:
            return True
        self.is_in_doubt = True
        return False

    def _count(self, offsets: Sequence[int], existing: set[int]) -> None:
        before = self.fenced_records
        self.fenced_records += sum(1 for offset in offsets if offset >= self._counted_to and offset not in existing)
        self._counted_to = max(self._counted_to, offsets[-1] + 1)
        if before // TELL_EVERY != self.fenced_records // TELL_EVERY or before == 0 < self.fenced_records:
            logger.info(  # harmless: leftovers of owners who came too late
                "%s/%d: %d records so far do not exist: they were written for another offset or another log",
                *self._place, self.fenced_records,
            )  # fmt: skip


class LogIds:
    """The rules of all log partitions that were read so far."""

    def __init__(self, read_first: ReadFirst) -> None:
        self._read_first = read_first
        self._rules: dict[TopicPartition, Existing] = {}
        self._sure: set[TopicPartition] = set()

    async def rule(self, place: TopicPartition) -> Existing | None:
        """The partition's rule; None while nothing stands in it.

        Raises ``ChainError`` if it does not begin with a record of a log of ours, or with another log's than before.
        """
        known = self._rules.get(place)
        if known is not None and place in self._sure and not known.is_in_doubt:
            return known
        first = await self._read_first(place)
        if first is None:
            if known is not None:
                raise self._made_anew(place)
            return None
        try:
            log_id = self._log_id(first)
        except ChainError:
            if known is not None:
                raise self._made_anew(place) from None
            raise
        if known is None:
            known = self._rules.setdefault(place, Existing(place, log_id))
        if known.log_id != log_id:
            raise self._made_anew(place)
        known.is_in_doubt = False
        self._sure.add(place)
        return known

    def known(self, place: TopicPartition) -> Existing | None:
        """The partition's rule, if it was needed before."""
        return self._rules.get(place)

    def doubt(self, place: TopicPartition) -> None:
        """The partition was away: look again whether it is still the same."""
        self._sure.discard(place)

    def fenced_records(self) -> dict[TopicPartition, int]:
        """How many records do not exist, for every log partition that was read."""
        return {place: rule.fenced_records for place, rule in self._rules.items()}

    @staticmethod
    def _log_id(first: StoredRecord) -> bytes:
        headers = dict(first.headers)
        log_id = headers.get(LOG_ID)
        if headers.get(EXPECTED_OFFSET) != b"0" or log_id is None:
            raise ChainError(
                f"{first.topic}/{first.partition} does not begin with a record of a log: somebody else has written to "
                "it. Let only the router write to it, and make the topic anew (a log that is in use: import its export)"
            )
        return log_id

    @staticmethod
    def _made_anew(place: TopicPartition) -> LogError:
        return ChainError(
            f"{place.topic}/{place.partition} was made anew under us: what was decided stands in a log that is gone. "
            "Stop all serve of this log; restore the topic from an export or a copy, or begin with empty topics"
        )

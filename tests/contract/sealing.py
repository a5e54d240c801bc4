"""Records with the headers that a lane gives them: a store without conditional appends goes by them."""

from __future__ import annotations

from events.chain import NOTHING_BEFORE, Entry, seal
from events.log import NewRecord, TopicPartition
from events.records import hash_of


def sealed(place: TopicPartition, expected: int, *values: bytes, key: bytes | None = b"k") -> list[NewRecord]:
    """Records for an append at ``expected``."""
    entries = [Entry(b"", value, hash_of(value)) for value in values]
    records = seal(place, entries, expected=expected, log_id="contract", after=NOTHING_BEFORE, progress=None)
    return [record._replace(key=key) for record in records]


def numbered_sealed(place: TopicPartition, begin: int, count: int) -> list[NewRecord]:
    """Records for an append at ``begin`` whose values are their offsets."""
    return sealed(place, begin, *(b"%d" % number for number in range(begin, begin + count)))

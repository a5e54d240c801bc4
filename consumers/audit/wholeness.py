"""Whether what is told of a conversation is what lanes wrote: the chain of the logs, looked at while they are searched.

Only ``audit show`` needs it, which reads the logs anyway: a hash for each record (about 5 microseconds with its
links), and for each conversation of the wanted id a number and a hash. The other checks, and where exactly something is
wrong, are ``verify.py``'s business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

from consumers.audit.reading import Seen, are_missing
from consumers.audit.report import Difference, Place
from events.chain import NOTHING_BEFORE, ChainError, follows, link_of
from events.log import StoredRecord, TopicPartition
from events.records import hash_of

BREAKS_MAX: Final = 100  #: of one partition that are remembered

Whose = tuple[str, str]  #: workspace and contact of a conversation


class Break(NamedTuple):
    """Where the chain does not hold. ``suspects``: offsets of which one was changed, exchanged or put in."""

    place: TopicPartition
    offset: int
    suspects: tuple[int, ...]  #: none: something is missing at ``offset``
    sentence: str


@dataclass(slots=True)
class _Last:
    """The record of a partition that was seen last."""

    log_id: str
    hash: str = NOTHING_BEFORE
    offset: int = -1
    ends_append: bool = True


class Wholeness:
    """Follows the chain of partitions that are read from their beginning, and the rows of conversations in them."""

    def __init__(self) -> None:
        self._last: dict[TopicPartition, _Last] = {}
        self._breaks: dict[TopicPartition, list[Break]] = {}
        self._rows: dict[tuple[Whose, TopicPartition], tuple[int, str | None]] = {}
        self._row_breaks: dict[Whose, Break] = {}

    def see(self, stored: StoredRecord) -> None:
        """Hold a record against the one before it."""
        last = self._last.get(stored.place)
        try:
            if last is None:
                last = self._last[stored.place] = _Last(link_of(stored).log_id)
            last.ends_append = follows(stored, log_id=last.log_id, after=last.hash) is not None
        except ChainError:
            last = last or self._last.setdefault(stored.place, _Last(""))
            self._broken(stored, last)
        last.hash, last.offset = hash_of(stored.value or b""), stored.offset

    def _broken(self, stored: StoredRecord, last: _Last) -> None:
        if stored.offset > last.offset + 1:
            self._miss(stored.place, last.offset + 1, stored.offset)
            return
        suspects = tuple(offset for offset in (last.offset, stored.offset) if offset >= 0)
        behind = ", or the one behind it was changed or put in" if len(suspects) > 1 else ""
        self._add(Break(stored.place, suspects[0], suspects, f"this record was changed after it was written{behind}"))

    def _miss(self, place: TopicPartition, offset: int, found: int) -> None:
        self._add(Break(place, offset, (), f"{are_missing(found - offset)} here"))

    def _add(self, found: Break) -> None:
        breaks = self._breaks.setdefault(found.place, [])
        if len(breaks) < BREAKS_MAX:
            breaks.append(found)

    def see_of(self, whose: Whose, found: Seen) -> None:
        """Hold a record of the wanted conversation against the one before it in its conversation."""
        stored, data = found.stored, found.data
        row = whose, stored.place
        seq, prev = self._rows.get(row, (0, None))
        number = data.get("seq")
        if number != seq + 1:
            sentence = f"this is record {number} of its conversation here, and record {seq + 1} is missing"
        elif data.get("prev") != prev:
            sentence = "the record before this one in its conversation was changed after it was written"
        else:
            sentence = ""
        if sentence:
            self._row_breaks.setdefault(whose, Break(stored.place, stored.offset, (stored.offset,), sentence))
        self._rows[row] = number if isinstance(number, int) else seq + 1, found.record.hash

    def end(self, place: TopicPartition, end: int, *, has_fenced: bool) -> None:
        """The partition was read to its ``end``. ``has_fenced``: offsets may hold what does not exist."""
        last = self._last.get(place)
        offset = -1 if last is None else last.offset
        if end > offset + 1 and not has_fenced:
            self._miss(place, offset + 1, end)
        elif last is not None and offset > 0 and not last.ends_append:
            self._add(Break(place, offset + 1, (), "the log ends in the middle of an append: records are missing here"))

    def damage(self, whose: Whose, spots: Collection[tuple[TopicPartition, int]]) -> Break | None:
        """What speaks against the conversation's records; None: nothing that can be seen.

        A break at one of its records comes first; then one elsewhere on its partitions, for what was changed or is
        missing there may have been its own.
        """
        places = dict.fromkeys(place for place, _ in spots)
        breaks = [found for place in places for found in self._breaks.get(place, [])]
        for found in breaks:
            if any((found.place, offset) in spots for offset in found.suspects):
                return found
        if whose in self._row_breaks:
            return self._row_breaks[whose]
        for found in breaks:
            return found._replace(sentence=f"{found.sentence}; it may have been of this conversation")
        return None


def difference(found: Break, whose: Whose, conversation: str) -> Difference:
    """A break as reports have it."""
    return Difference(
        check="chain",
        place=Place(topic=found.place.topic, partition=found.place.partition, offset=found.offset),
        sentence=found.sentence,
        conversation=conversation,
        contact=whose[1],
        workspace=whose[0],
    )

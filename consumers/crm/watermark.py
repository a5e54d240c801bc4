"""Up to where a partition's records are done with, when they are finished in any order.

Pure counting; reading, working and committing are the roles' business.
"""

from __future__ import annotations


class Watermark:
    """One partition. ``position`` is the offset that a successor has to begin at: nothing below it is unfinished."""

    __slots__ = ("_open", "_read_to")

    def __init__(self, offset: int) -> None:
        self._read_to = offset
        self._open: dict[int, None] = {}  # in the order of the offsets, which is the order of beginning

    @property
    def position(self) -> int:
        """The lowest unfinished offset, or else how far was read. Never falls."""
        return next(iter(self._open), self._read_to)

    @property
    def read(self) -> int:
        """How far was read."""
        return self._read_to

    @property
    def open(self) -> int:
        """How many records are begun and not finished."""
        return len(self._open)

    def begin(self, offset: int) -> None:
        """Work on a record starts; offsets come in rising order, none below what was read."""
        self._open[offset] = None

    def finish(self, offset: int) -> None:
        """Work on a record has ended, its effect is durable."""
        del self._open[offset]

    def read_to(self, offset: int) -> None:
        """Every record below ``offset`` was begun or needs no work."""
        self._read_to = max(self._read_to, offset)

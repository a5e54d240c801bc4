"""The CRM's answers, kept for as long as a policy says. They are bounded in number and size; the oldest use goes first.

Keys are digests (``Endpoint.key``), so that no address is kept for looking up.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

import orjson
from msgspec import structs

from consumers.crm.outcomes import Answered

ENTRIES_MAX: Final = 100_000
BYTES_MAX: Final = 64 * 1024 * 1024  #: of the variables, as JSON


class _Entry(NamedTuple):
    answered: Answered
    at_ms: int
    size_bytes: int


class AnswerCache:
    """Answers by key. Times are Unix milliseconds."""

    def __init__(self, *, entries_max: int = ENTRIES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes, *, now_ms: int, ttl_ms: int) -> Answered | None:
        """The answer with its age, if there is one that is younger than ``ttl_ms``."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        age_ms = max(0, now_ms - entry.at_ms)
        if age_ms >= ttl_ms:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return structs.replace(entry.answered, attempts=0, latency_ms=0, age_ms=age_ms)

    def put(self, key: bytes, answered: Answered, *, now_ms: int) -> None:
        """Keep an answer that has just come."""
        self._drop(key)
        size_bytes = len(orjson.dumps((answered.variables, answered.personal)))
        self._entries[key] = _Entry(answered, now_ms, size_bytes)
        self._bytes += size_bytes
        while len(self._entries) > self._entries_max or self._bytes > self._bytes_max:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: bytes) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.size_bytes

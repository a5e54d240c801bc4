"""Keeps aiokafka's log readable while brokers are away: each of its messages at most every half minute.

It logs every attempt of every connection as an error. What is the matter, our own log says once, with what to do.
"""

from __future__ import annotations

import logging
import time
from typing import Final

INTERVAL_S: Final = 30.0
MESSAGES_MAX: Final = 1_000  #: remembered; then all are forgotten
LOGGERS: Final = (
    "aiokafka",
    "aiokafka.cluster",
    "aiokafka.conn",
    "aiokafka.consumer.consumer",
    "aiokafka.consumer.fetcher",
    "aiokafka.consumer.group_coordinator",
)


class OncePerInterval(logging.Filter):
    """Lets a warning or an error through when the same one was not let through just before."""

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._seen_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to let it through."""
        if record.levelno < logging.WARNING:
            return True
        key = (record.name, str(record.msg))
        now_s = time.monotonic()
        if now_s - self._seen_s.get(key, -self._interval_s) < self._interval_s:
            return False
        if len(self._seen_s) >= MESSAGES_MAX:
            self._seen_s.clear()
        self._seen_s[key] = now_s
        return True


_filter: Final = OncePerInterval()


def quieten() -> None:
    """Put the filter before aiokafka's loggers; again is nothing."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_filter)

"""How the writer of a SQLite log waits for another program that writes the file: for as long as somebody wants it to.

A backup, ``VACUUM`` or a forgotten shell may hold the file's one write lock for minutes. Nothing is written meanwhile,
and nothing is wrong: it is said after a few seconds, and then seldom.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

SLICE_MS: Final = 100  #: SQLite tries for so long at a time; who closes or gives up waits no longer than this
WARN_AFTER_S: Final = 5.0  #: of waiting; from then on the log counts as held up
WARN_INTERVAL_S: Final = 30.0

HELD: Final = "is being written by another process that does not let go"

logger = logging.getLogger(__name__)


class LockWait:
    """The present wait, if there is one. Changed by the writing thread, may be looked at from others."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._since_s: float | None = None
        self._warn_at_s = 0.0

    @property
    def waited_s(self) -> float:
        """How long; 0: nobody waits."""
        since_s = self._since_s
        return 0.0 if since_s is None else self._clock() - since_s

    @property
    def is_long(self) -> bool:
        """Whether it is longer than what one writer costs another in passing."""
        return self.waited_s >= WARN_AFTER_S

    def note(self) -> None:
        """The lock was not to be had."""
        now_s = self._clock()
        if self._since_s is None:
            self._since_s = now_s
            self._warn_at_s = now_s + WARN_AFTER_S
        elif now_s >= self._warn_at_s:
            self._warn_at_s = now_s + WARN_INTERVAL_S
            logger.warning(
                "the log %s %s (%.0f s so far): writes wait for it; look for a backup, VACUUM or an open sqlite3 shell "
                "(fuser FILE names the process)",
                self._path, HELD, self.waited_s,
            )  # fmt: skip

    def end(self) -> None:
        """It was had, or nobody waits for it any more."""
        if self.is_long:
            logger.warning("the log %s was held for %.0f s by another process", self._path, self.waited_s)
        self._since_s = None

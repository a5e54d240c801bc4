"""Sends a lane's outputs: after the append that decided them, in log order, each batch after the one before it.

What it knows of is gone with the process; the mark in the log says where a successor has to begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from events.log import IndefiniteError, Log, NewRecord

logger = logging.getLogger(__name__)

BATCH_RECORDS_MAX: Final = 1_000
RETRY_FIRST_S: Final = 0.05
RETRY_MAX_S: Final = 2.0


class _Waiting(NamedTuple):
    offset: int  # the record that the outputs come from
    outputs: Sequence[NewRecord]


class Publisher:
    """The outputs of one lane that are not confirmed yet, oldest first."""

    def __init__(self, log: Log, *, backlog_max: int) -> None:
        self._log = log
        self._backlog_max = backlog_max
        self._queue: deque[_Waiting] = deque()
        self._backlog = 0
        self._changed = asyncio.Event()

    def add(self, offset: int, outputs: Sequence[NewRecord]) -> None:
        """Queue the outputs of the record at ``offset``."""
        self._queue.append(_Waiting(offset, outputs))
        self._backlog += len(outputs)
        self._changed.set()

    @property
    def mark(self) -> int | None:
        """The lowest log offset with an output not yet confirmed; None: all are."""
        return self._queue[0].offset if self._queue else None

    @property
    def is_full(self) -> bool:
        """Whether the lane should stop deciding until some are out."""
        return self._backlog >= self._backlog_max

    async def run(self) -> None:
        """Publish until cancelled; raises what cannot be repeated (``LogUnavailableError``)."""
        while True:
            while not self._queue:
                self._changed.clear()
                await self._changed.wait()
            await self._publish_some()

    async def until_room(self) -> None:
        """Wait until the backlog is no longer full."""
        while self.is_full:
            self._changed.clear()
            await self._changed.wait()

    async def until_empty(self) -> None:
        """Wait until all outputs are confirmed."""
        while self._queue:
            self._changed.clear()
            await self._changed.wait()

    async def _publish_some(self) -> None:
        batch: list[NewRecord] = []
        taken = 0
        for waiting in self._queue:
            if batch and len(batch) + len(waiting.outputs) > BATCH_RECORDS_MAX:
                break
            batch.extend(waiting.outputs)
            taken += 1
        await publish_all(self._log, batch)
        for _ in range(taken):
            self._backlog -= len(self._queue.popleft().outputs)
        self._changed.set()


async def publish_all(log: Log, records: Sequence[NewRecord]) -> None:
    """Publish, repeating until it is confirmed while nobody can say whether it was: never skipped, maybe doubled."""
    pause_s = RETRY_FIRST_S
    while True:
        try:
            await log.publish(records)
        except IndefiniteError:
            logger.warning("no answer to a publish of %d records: repeating it", len(records))
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MAX_S)
        else:
            return

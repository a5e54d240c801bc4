"""How far lanes have decided, told to the log as their role's group positions: for people who watch lag.

Nothing of ours reads them, where a lane goes on stands in its log (``consumers/lane.py``). So nobody's work waits for
them, and one that cannot be committed is left for the next time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from consumers.telemetry.views import LaneFigures
from events.log import Log, LogError, TopicPartition

COMMIT_EVERY_S: Final = 5.0
COMMIT_TIMEOUT_S: Final = 1.0  #: a hand-over waits no longer for the last one

logger = logging.getLogger(__name__)


class Standing(Protocol):
    """A lane."""

    def figures(self) -> LaneFigures:
        """How it stands now."""


class Committing:
    """Commits for one role of this process, as the group ``role``."""

    def __init__(self, log: Log, role: str) -> None:
        self._log = log
        self._role = role
        self._committed: dict[TopicPartition, int] = {}

    async def often(self, lanes: Callable[[], Sequence[Standing]]) -> None:
        """Commit every few seconds, without end."""
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            await self.commit(lanes())

    async def commit(self, lanes: Iterable[Standing]) -> None:
        """Commit what has moved, within a second or not at all; raises nothing."""
        moved = {
            TopicPartition(topic, figures.partition): position
            for figures in [lane.figures() for lane in lanes]
            for topic, position in figures.positions.items()
            if self._committed.get(TopicPartition(topic, figures.partition)) != position
        }
        if not moved:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._log.commit(self._role, moved)
        except (LogError, TimeoutError) as error:
            logger.debug("%s: positions for who watches lag could not be committed: %r", self._role, error)
        else:
            self._committed.update(moved)

    def forget(self, lanes: Iterable[Standing]) -> None:
        """Somebody else goes on with these: what he commits is not known here."""
        gone = {lane.figures().partition for lane in lanes}
        self._committed = {place: at for place, at in self._committed.items() if place.partition not in gone}

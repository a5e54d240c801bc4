"""The time that a lane decides by: its machine's clock, but never behind what its log has recorded.

A log whose last record lies ahead of the clock (the clock was put back, or a predecessor's was fast) must not make time
stand still, or no deadline would pass until the clock is there: time goes on from that record then. Waiting until
something is due, and what is done when it is, are the lane's business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from consumers.lane_spec import LaneLimits
from events.log import LogError, TopicPartition

logger = logging.getLogger(__name__)

#: While the log is ahead, its time loses one part in so many, until the clock has caught up. Without it one wrong hour
#: would stay in the log for good; a deadline lasts a hundredth longer meanwhile, never less than its length.
LOSES_ONE_IN: Final = 100


class ClockError(LogError):
    """The clock of this machine differs too much from the log's: deadlines would fire at the wrong time."""


class LaneClock:
    """One lane's ``now``, Unix milliseconds. ``clock`` is the machine's; what elapses is the event loop's time."""

    def __init__(self, place: TopicPartition, clock: Callable[[], int], limits: LaneLimits) -> None:
        self.machine_ms = clock
        self._place = place
        self._limits = limits
        self._log_ms = 0  #: ``at`` of the log's last record
        self._base_ms = 0  #: the log's time ...
        self._base_s = 0.0  #: ... when the loop's was this
        self._is_ahead = False  #: the log is, and was not caught up with since
        self._is_told = False

    def now_ms(self) -> int:
        """The clock's time; while the log is ahead of it, the log's last time plus what has elapsed since."""
        clock_ms = self.machine_ms()
        running_ms = self._running_ms()
        if clock_ms >= (running_ms if self._is_ahead else self._log_ms):
            self._is_ahead = self._is_told = False
            return clock_ms
        self._is_ahead = True
        if running_ms - clock_ms > self._limits.clock_warn_ms and not self._is_told:
            self._is_told = True
            self._warn(running_ms - clock_ms)
        return running_ms

    def recorded(self, at_ms: int) -> None:
        """The log's last record, read or written just now, is of ``at_ms``."""
        self._log_ms = at_ms
        if not self._is_ahead or at_ms > self._running_ms():
            self._base_ms, self._base_s = at_ms, asyncio.get_running_loop().time()

    def compare(self, log_time_ms: int) -> None:
        """Hold the clock against that of a log that has one of its own; raises ``ClockError`` if they are far apart."""
        apart_ms = abs(self.machine_ms() - log_time_ms)
        if apart_ms > self._limits.clock_stop_ms:
            raise ClockError(f"this machine's clock and the log's differ by {apart_ms / 1000:.0f} s: set the clock")
        if apart_ms > self._limits.clock_warn_ms:
            logger.warning("this machine's clock and the log's differ by %.1f s", apart_ms / 1000)

    def _running_ms(self) -> int:
        elapsed_ms = int((asyncio.get_running_loop().time() - self._base_s) * 1_000)
        return self._base_ms + elapsed_ms - elapsed_ms // LOSES_ONE_IN

    def _warn(self, ahead_ms: int) -> None:
        logger.warning(
            "%s/%d: the log is %.1f s ahead of this machine's clock: that was set back, or the last owner's was fast. "
            "Times in the log run ahead until the clock has caught up; deadlines keep their length. If this machine's "
            "clock is the wrong one, set it: the lane follows at once. If it is right, see VipRouterClockApart in "
            "deploy/runbook.md",
            *self._place,
            ahead_ms / 1_000,
        )

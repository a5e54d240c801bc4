"""How long those who wait may have to wait: their place in the line, at the pace of the last hour.

The estimate is ``place * window / given``: place in the line of a pool (1 is next), the window (the last hour, or less
where the log is younger), and how many conversations agents were given out of that pool in the window (for one agent's
own line: how many he was given at all). It is None, "unknown", where fewer than ``GIVEN_MIN`` were given, and where
nobody of the pool is there. Of two lines the shorter wait counts. It is a rule of three and no promise: it does not
foresee who comes later and ranks higher, who goes home, or that a pool that was idle can give faster than it had to.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

from consumers.desk.lines import Line, PoolOf, giving_pool, read_line
from consumers.desk.reading import Extent, offset_after, records_of
from events.log import Log

WINDOW_MS: Final = 3_600_000
GIVEN_MIN: Final = 3


class Pace(NamedTuple):
    """How many conversations were given in the window, by pool and by agent."""

    window_ms: int
    by_pool: Counter[str]
    by_agent: Counter[str]

    def of_pool(self, pool: str, place: int) -> int | None:
        """The wait, milliseconds, at a place in a pool's line; None: unknown."""
        return estimate_ms(place, self.by_pool[pool], self.window_ms)

    def of_agent(self, agent: str, place: int) -> int | None:
        """The wait, milliseconds, at a place in the line of one agent; None: unknown."""
        return estimate_ms(place, self.by_agent[agent], self.window_ms)


def estimate_ms(place: int, given: int, window_ms: int) -> int | None:
    """``place * window / given``, rounded; None where too few were given to go by."""
    if given < GIVEN_MIN or window_ms <= 0:
        return None
    return round(place * window_ms / given)


class PaceCounter:
    """Counts what was given; the records are those of the window, in order."""

    def __init__(self) -> None:
        self.by_pool: Counter[str] = Counter()
        self.by_agent: Counter[str] = Counter()
        self._offered: dict[tuple[str, str], PoolOf] = {}

    def take(self, line: Line) -> None:
        """Count the next record. What was taken by hand is nobody's pace."""
        data = line.data
        if line.type == "assignment.offered":
            self._offered[line.conversation] = giving_pool(data, is_fallback=data.reason == "fallback")
        elif line.type == "assignment.made" and data.strategy != "by-hand":
            pool = self._offered.pop(line.conversation, None) if data.reason == "accepted" else None
            pool = pool or giving_pool(data, is_fallback=data.reason == "fallback")
            self.by_pool[pool.pool.name] += 1
            self.by_agent[str(data.agent)] += 1


async def pace_of(log: Log, extent: Extent, workspace: str, end: int, as_of_ms: int) -> Pace:
    """The pace of the hour before ``as_of_ms``, from the records below ``end``."""
    from_ms = max(as_of_ms - WINDOW_MS, extent.first_ms)
    counter = PaceCounter()
    start = await offset_after(log, extent, from_ms - 1)
    async for stored in records_of(log, extent.place, end, start=start):
        line = read_line(stored)
        if line.workspace == workspace:
            counter.take(line)
    return Pace(as_of_ms - from_ms, counter.by_pool, counter.by_agent)

"""Arithmetic of fairness and waiting: how evenly counts are shared, and percentiles of durations in bounded memory.

Pure functions over numbers; where the numbers come from is ``ledger.py``'s business, or a simulation's.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from math import ceil, log
from typing import Final, NamedTuple

EXACT_MAX: Final = 10_000  #: durations up to which every one is kept and percentiles are exact
ERROR_MAX: Final = 0.005  #: above it, how far off a percentile may be, relative to its value
_GROWTH: Final = (1 + ERROR_MAX) / (1 - ERROR_MAX)  #: from one bucket's upper end to the next
_PER_LOG: Final = 1 / log(_GROWTH)


class Waits(NamedTuple):
    """How long something took, milliseconds; None: it never happened."""

    number: int  #: of the durations
    p50: int | None
    p95: int | None
    p99: int | None
    longest: int | None
    is_exact: bool = True  #: False: the percentiles may be off by ``ERROR_MAX`` of their value; ``longest`` never is


class Shares(NamedTuple):
    """How evenly conversations were given to agents."""

    agents: int
    total: int
    least: int  #: of one agent
    most: int
    spread: int  #: most - least
    jain: float | None  #: 1: all got the same; 1/agents: one got all; None: nobody got any
    jain_by_weight: float | None  #: the same of counts divided by weights


def jain(counts: Sequence[float], weights: Sequence[float] | None = None) -> float | None:
    """Jain's index of fairness (Jain, Chiu, Hawe 1984): (sum x)^2 / (n * sum x^2), x = count / weight.

    1 where all have the same for their weight, 1/n where one has all. None where nobody has any. Weights are above 0.
    """
    each = counts if weights is None else [count / weight for count, weight in zip(counts, weights, strict=True)]
    squares = sum(x * x for x in each)
    return sum(each) ** 2 / (len(each) * squares) if squares else None


def shares(counts: Sequence[int], weights: Sequence[float] | None = None) -> Shares:
    """How evenly these counts, one of each agent, are shared; ``weights`` None: all have the same weight."""
    if not counts:
        return Shares(0, 0, 0, 0, 0, None, None)
    least, most = min(counts), max(counts)
    return Shares(len(counts), sum(counts), least, most, most - least, jain(counts), jain(counts, weights))


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The nearest-rank percentile of values in ascending order: the least that ``percent`` % do not exceed.

    One of the values, never one between two. Raises ``ValueError`` if there are none, or for less than 1 or over 100.
    """
    if not ordered:
        raise ValueError("no value, no percentile")
    return ordered[_rank(len(ordered), percent) - 1]


def percentiles(values: Iterable[int]) -> Waits:
    """p50, p95, p99 and the greatest, exactly."""
    ordered = sorted(values)
    if not ordered:
        return Waits(0, None, None, None, None)
    p50, p95, p99 = (percentile(ordered, percent) for percent in (50, 95, 99))
    return Waits(len(ordered), p50, p95, p99, ordered[-1])


def _rank(count: int, percent: int) -> int:
    if not 1 <= percent <= 100:  # noqa: PLR2004  # per cent
        raise ValueError(f"there is no {percent} % percentile: give 1 to 100")
    return -(-count * percent // 100)


class Durations:
    """Collects durations, milliseconds from 0 on, in bounded memory.

    Up to ``exact_max`` each is kept. Above, they are counted in buckets whose ends grow by 1 % (as DDSketch does;
    Masson, Rim, Lee, VLDB 2019): a percentile is then off by at most ``ERROR_MAX`` of its value (and by the rounding
    to a millisecond), and ten years take fewer than 3,000 buckets. The longest is always exact.
    """

    def __init__(self, exact_max: int = EXACT_MAX) -> None:
        self.count = 0
        self.longest: int | None = None
        self._exact_max = exact_max
        self._values: array[int] | None = array("q")
        self._buckets: dict[int, int] = {}

    def add(self, duration_ms: int) -> None:
        """Take one more; a negative one counts as 0."""
        duration_ms = max(duration_ms, 0)
        self.count += 1
        if self.longest is None or duration_ms > self.longest:
            self.longest = duration_ms
        if self._values is None:
            self._sort_in(duration_ms)
            return
        self._values.append(duration_ms)
        if len(self._values) > self._exact_max:
            for each in self._values:
                self._sort_in(each)
            self._values = None

    def waits(self) -> Waits:
        """What was collected so far."""
        if self._values is not None:
            return percentiles(self._values)
        p50, p95, p99 = (self._at(_rank(self.count, percent)) for percent in (50, 95, 99))
        return Waits(self.count, p50, p95, p99, self.longest, is_exact=False)

    def _sort_in(self, duration_ms: int) -> None:
        bucket = ceil(log(duration_ms) * _PER_LOG) if duration_ms else -1
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def _at(self, rank: int) -> int:
        """The middle of the bucket that holds the value of this rank."""
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                break
        middle = 0 if bucket < 0 else round(2 * _GROWTH**bucket / (_GROWTH + 1))
        assert self.longest is not None
        return min(middle, self.longest)

"""What a run counts: faults, messages, broken promises, and how long partitions stood still.

A partition has recovered from a fault when a conversation that was opened after the fault is assigned.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from tests.simulation.observer import ViolationError

COLUMNS: Final = ("lost", "doubled", "contradicted", "overtaken")
#: what a broken promise counts as, by the oracle that saw it; all others: contradicted
COLUMN_OF: Final = {
    "outcome": "lost",
    "progress": "lost",
    "outputs": "lost",
    "acknowledged": "lost",
    "vanished": "lost",
    "alive": "lost",
    "effects": "doubled",
    "owner": "doubled",
    "cap": "doubled",
    "asked": "doubled",
    "order": "overtaken",
}
SHOWN_MAX: Final = 20


class Place(NamedTuple):
    """A partition of a role."""

    role: str
    partition: int


class Recovery:
    """Partitions that a fault stopped, until each of them assigns again."""

    def __init__(self, kind: str, places: Iterable[Place]) -> None:
        self.kind = kind
        self.began_s = time.monotonic()
        self.waiting = set(places)
        self.done = asyncio.Event()
        if not self.waiting:
            self.done.set()


class Tally:
    """All that is counted. ``tell`` hears of everything as it happens."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self.began_s = time.monotonic()
        self._tell = tell
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.took_s: dict[str, list[float]] = {}
        self.violations: list[ViolationError] = []
        self._recoveries: list[Recovery] = []

    @property
    def columns(self) -> dict[str, int]:
        """Broken promises by column."""
        found = Counter(COLUMN_OF.get(violation.oracle, "contradicted") for violation in self.violations)
        return {column: found[column] for column in COLUMNS}

    @property
    def broken(self) -> str:
        """The columns in words."""
        return ", ".join(f"{name} {count}" for name, count in self.columns.items())

    def tell(self, words: str) -> None:
        """Say what happens now."""
        self._tell(f"{time.monotonic() - self.began_s:>8.1f} s  {words}")

    def violated(self, oracle: str, message: str) -> None:
        """A promise was broken."""
        self.add(ViolationError(oracle, message))

    def add(self, violation: ViolationError) -> None:
        """A promise was broken, as an oracle says."""
        self.violations.append(violation)
        self.tell(f"BROKEN {violation}"[:1_000])

    def begin(self, kind: str, places: Iterable[Place]) -> Recovery:
        """A fault begins now; ``Recovery.done`` is set when all these partitions assign again."""
        recovery = Recovery(kind, places)
        self._recoveries.append(recovery)
        return recovery

    def assigned(self, places: Sequence[Place], opened_s: float) -> None:
        """A conversation that was opened then, by the monotonic clock, has come through these partitions."""
        now_s = time.monotonic()
        for recovery in self._recoveries:
            if recovery.began_s < opened_s:
                for place in recovery.waiting.intersection(places):
                    recovery.waiting.discard(place)
                    self.took_s.setdefault(recovery.kind, []).append(now_s - recovery.began_s)
                if not recovery.waiting:
                    recovery.done.set()
                    self.tell(f"{recovery.kind}: recovered after {now_s - recovery.began_s:.1f} s")
        self._recoveries = [recovery for recovery in self._recoveries if recovery.waiting]

    @property
    def standing(self) -> list[Recovery]:
        """Faults of which some partition has not recovered."""
        return list(self._recoveries)

    def give_up(self) -> None:
        """Nothing more will be assigned."""
        self._recoveries.clear()

    def table(self) -> str:
        """The result, for people."""
        rows = [
            f"cycles         {self.faults.total():>9,}   in {(time.monotonic() - self.began_s) / 60:.1f} minutes",
            *(f"{name:<15}{self.counts[name]:>9,}" for name in ("messages", "records", "outputs", "repeated outputs")),
            f"{'fault':<24}{'times':>7}{'partitions':>12}{'p50 s':>8}{'p99 s':>8}{'max s':>8}",
            *(self._row(kind, times) for kind, times in sorted(self.faults.items())),
            self._row("all", self.faults.total()),
            *(f"{name:<24}{count:>7,}" for name, count in sorted(self.counts.items()) if name.startswith("serve ")),
            *(f"{column:<15}{count:>9,}" for column, count in self.columns.items()),
            *(f"  {violation}"[:600] for violation in self.violations[:SHOWN_MAX]),
        ]
        return "\n".join(rows)

    def _row(self, kind: str, times: int) -> str:
        if kind == "all":
            took_s = sorted(one for name in self.faults for one in self.took_s.get(name, ()))
        else:
            took_s = sorted(self.took_s.get(kind, ()))
        shown = f"{percentile(took_s, 50):>8.2f}{percentile(took_s, 99):>8.2f}{took_s[-1]:>8.2f}" if took_s else ""
        return f"{kind:<24}{times:>7,}{len(took_s):>12,}{shown}"


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The smallest value that so many per cent of the values do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]

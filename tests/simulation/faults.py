"""Which faults happen: chosen by one seeded generator, counted by kind, and switched off when the run has to settle."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Final

APPEND_FAULTS: Final = ("fenced", "indefinite-before", "indefinite-after", "indefinite-late", "twice", "unavailable")
PUBLISH_FAULTS: Final = ("indefinite-before", "indefinite-after", "indefinite-partly", "indefinite-late", "doubled")
LATE_MAX_S: Final = 40.0
DELAY_MAX_S: Final = 8.0


@dataclass
class Faults:
    """The faults of one run. ``append_rate`` and so on are probabilities of each call; all are off if ``on`` is not."""

    rng: Random
    append_rate: float = 0.0
    publish_rate: float = 0.0
    delay_rate: float = 0.0
    crash_rate: float = 0.0  #: of each call on the log port, before or after its effect
    foreign_rate: float = 0.0  #: that an append is preceded by one of somebody whose log was another one
    on: bool = True
    counts: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of_seed(cls, rng: Random) -> Faults:
        """A profile: some runs are rough everywhere, some only in one respect."""

        def rate(*choices: float) -> float:
            return rng.choice(choices)

        return cls(
            rng,
            append_rate=rate(0, 0.02, 0.15, 0.3),
            publish_rate=rate(0, 0.05, 0.2, 0.4),
            delay_rate=rate(0.02, 0.2, 0.5),
            crash_rate=rate(0, 0.002, 0.01),
            foreign_rate=rate(0, 0.05, 0.1),
        )

    def of_append(self) -> str | None:
        """What goes wrong with an append; None: nothing."""
        return self._one_of(APPEND_FAULTS, self.append_rate, "append")

    def of_publish(self) -> str | None:
        """What goes wrong with a publish; None: nothing."""
        return self._one_of(PUBLISH_FAULTS, self.publish_rate, "publish")

    def delay_s(self) -> float:
        """How long a call takes beside giving way once, seconds."""
        if not self._happens(self.delay_rate):
            return 0.0
        self.counts["delay"] += 1
        return self.rng.choice((0.001, 0.05, 0.5, DELAY_MAX_S)) * self.rng.random()

    def late_s(self) -> float:
        """How long after its error a write takes effect all the same, seconds."""
        return self.rng.choice((0.01, 1.0, LATE_MAX_S)) * self.rng.random()

    def crashes(self) -> bool:
        """Whether the process dies at this point."""
        return self._happens(self.crash_rate)

    def foreign(self) -> bool:
        """Whether somebody from another log writes first."""
        return self._happens(self.foreign_rate)

    def _one_of(self, kinds: tuple[str, ...], rate: float, call: str) -> str | None:
        if not self._happens(rate):
            return None
        kind = self.rng.choice(kinds)
        self.counts[f"{call} {kind}"] += 1
        return kind

    def _happens(self, rate: float) -> bool:
        return self.on and rate > 0 and self.rng.random() < rate

"""Planted omissions: each leaves one rule of the design out of the real code, and the simulation has to turn red.

An ``Omission`` names the rule, the oracles of which one must see it, and the seeds on which somebody does. They are
planted into appending and resuming (``omitted_appends.py``), outputs, time and snapshots (``omitted_outputs.py``), and
the deciders (``omitted_rules.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tests.simulation.world import Plan

SEEDS_MAX: Final = 40
BUSY: Final[Mapping[str, Any]] = {"contacts": 10, "steps": 4, "gap_s": 60.0, "trouble_s": 300.0, "calm": False}


class Omission(NamedTuple):
    """A rule left out."""

    rule: str
    plant: Callable[[], AbstractContextManager[Any]]
    oracles: frozenset[str]  #: who may see it
    start: int  #: the first seed to try
    shape: Mapping[str, Any]  #: what of the seeds' plans is changed, where only few plans meet the case

    def plans(self) -> list[Plan]:
        """The runs in one of which it has to be seen."""
        return [replace(Plan.of_seed(seed), **self.shape) for seed in range(self.start, self.start + SEEDS_MAX)]


def omission(rule: str, plant: Callable[[], Any], *oracles: str, start: int = 0, **shape: Any) -> Omission:
    """Short for the table."""
    return Omission(rule, plant, frozenset(oracles), start, shape)

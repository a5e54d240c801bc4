"""Runs a seed and lets every oracle judge it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.kept import Kept
from tests.simulation.observer import ViolationError
from tests.simulation.oracles import ORACLES, PREFIX_ORACLES
from tests.simulation.virtual_loop import DeadlockError, LivelockError
from tests.simulation.world import Plan, World


class SeedError(AssertionError):
    """A seed is red. ``oracles`` are those who saw it; the message has the first one's words and how to repeat it."""

    def __init__(self, plan: Plan, violations: Sequence[ViolationError]) -> None:
        self.oracles = frozenset(violation.oracle for violation in violations)
        super().__init__(
            f"seed {plan.seed}: {violations[0]}\nseen by: {', '.join(sorted(self.oracles))}\n"
            f"repeat it: python -m tests.simulation --start {plan.seed} --seeds 1\n{plan}"
        )


def run_plan(plan: Plan) -> World:
    """Run a plan to its end and let every oracle judge it; raises ``SeedError``."""
    world = World(replace(plan))
    logging.disable(logging.CRITICAL)  # lanes warn of every fault
    try:
        violations = _run(world)
        kept = Kept(world)
        # A run that was given up is judged by what holds of every beginning of a run.
        for oracle in PREFIX_ORACLES if violations else ORACLES:
            violations += _judge(kept, oracle)
    finally:
        logging.disable(logging.NOTSET)
    if violations:
        raise SeedError(plan, violations)
    return world


def _run(world: World) -> list[ViolationError]:
    """Run it; what was found to be wrong meanwhile."""
    try:
        world.run()
    except ViolationError:
        pass  # the observer has it
    except (DeadlockError, LivelockError) as error:
        return [ViolationError("progress", str(error))]
    return list(world.observer.violations)


def _judge(kept: Kept, oracle: Callable[[Kept], None]) -> list[ViolationError]:
    """Let one oracle judge; a log that it cannot even read is as bad as one that it refuses."""
    try:
        oracle(kept)
    except ViolationError as violation:
        return [violation]
    except Exception as error:  # noqa: BLE001 - whatever it is, the log made it
        return [ViolationError(oracle.__name__.removeprefix("check_"), f"cannot be judged: {error!r}")]
    return []


def run_seed(seed: int) -> World:
    """Run a seed."""
    return run_plan(Plan.of_seed(seed))

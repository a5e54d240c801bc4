"""Runs a seed and judges it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from tests.simulation.kept import Kept
from tests.simulation.observer import ViolationError
from tests.simulation.oracles import ORACLES
from tests.simulation.virtual_loop import DeadlockError, LivelockError
from tests.simulation.world import Plan, World


class SeedError(AssertionError):
    """A seed is red. ``oracle`` says who saw it, the message how to repeat it."""

    def __init__(self, plan: Plan, oracle: str, message: str) -> None:
        super().__init__(
            f"seed {plan.seed}: [{oracle}] {message}\n"
            f"repeat it: python -m tests.simulation --start {plan.seed} --seeds 1"
        )
        self.oracle = oracle


def _judge(plan: Plan, kept: Kept, oracle: Callable[[Kept], None]) -> None:
    """Let one oracle judge; a log that it cannot even read is as bad as one that it refuses."""
    try:
        oracle(kept)
    except ViolationError:
        raise
    except Exception as error:
        raise SeedError(plan, oracle.__name__.removeprefix("check_"), f"cannot be judged: {error!r}") from error


def run_plan(plan: Plan) -> World:
    """Run a plan to its end and let every oracle judge it; raises ``SeedError``."""
    plan = replace(plan)
    world = World(plan)
    logging.disable(logging.CRITICAL)  # lanes warn of every fault
    try:
        world.run()
        kept = Kept(world)
        for oracle in ORACLES:
            _judge(plan, kept, oracle)
    except ViolationError as violation:
        raise SeedError(plan, violation.oracle, str(violation)) from violation
    except (DeadlockError, LivelockError) as error:
        raise SeedError(plan, "progress", str(error)) from error
    finally:
        logging.disable(logging.NOTSET)
    return world


def run_seed(seed: int) -> World:
    """Run a seed."""
    return run_plan(Plan.of_seed(seed))

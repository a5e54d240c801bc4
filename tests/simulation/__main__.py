"""``python -m tests.simulation --seeds N --start K``: run many seeds, say what happened in them, stop at a red one."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation.running import SeedError, run_seed


def main() -> int:
    """Run the seeds; 1 if one is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first red seed")
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    inputs = takeovers = red = 0
    began_s = time.monotonic()
    for seed in range(given.start, given.start + given.seeds):
        try:
            world = run_seed(seed)
        except SeedError as error:
            red += 1
            print(f"RED {error}", flush=True)  # noqa: T201 - a program's output
            if not given.keep_going:
                return 1
            continue
        counts += world.counts
        inputs += world.inputs
        takeovers += world.observer.takeovers
        if (seed - given.start) % 50 == 49:
            print(f"seed {seed} green, {time.monotonic() - began_s:.0f} s", flush=True)  # noqa: T201
    print(f"{given.seeds} seeds, {red} red, {inputs} inputs, {takeovers} take-overs")  # noqa: T201
    for kind, times in sorted(counts.items()):
        print(f"{times:>8}  {kind}")  # noqa: T201
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())

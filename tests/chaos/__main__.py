"""``python -m tests.chaos --minutes M | --cycles N``: faults without a pause, against three brokers and three workers.

Ends by itself. Exit code 1 if anything was lost, doubled, contradicted or overtaken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.brokers import backends
from tests.brokers.cluster import Cluster
from tests.brokers.node import Extra
from tests.chaos.arena import arena
from tests.chaos.faults import NAMES
from tests.chaos.running import Grounds, Plan, Run
from tests.chaos.setting import LONG, crm_contacts, write_policies
from tests.chaos.tally import Tally
from tests.processes import crm

RUN_S: Final = 900.0  #: of faults, before what they have left is judged


def main() -> int:
    """Run until the time or the cycles are over; 1 if a promise was broken."""
    given = _arguments()
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell has told us to ignore them
        signal.signal(ending, signal.default_int_handler)
    logging.disable(logging.CRITICAL)  # the harness' own client warns of every fault
    tally = Tally(lambda words: print(words, flush=True))  # noqa: T201 - a program's output
    choice = backends.choose()

    def made(n: int, extra: Extra | None = None) -> Cluster:
        return Cluster(n, extra, backend=choice.backend)

    print(f"brokers: {choice.words}; seed {given.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="vip-router-chaos-") as name, arena(made, choice.backend) as brokers:
        folder = Path(name)
        with crm(folder, crm_contacts()) as crm_url:
            policies = folder / "policies"
            grounds = Grounds(brokers, folder, policies, write_policies(policies, crm_url))
            _runs(given, grounds, tally)
    print(tally.table(), flush=True)  # noqa: T201
    return 1 if tally.violations else 0


def _runs(given: argparse.Namespace, grounds: Grounds, tally: Tally) -> None:
    end_s = time.monotonic() + given.minutes * 60
    for seed in range(given.seed, given.seed + 1_000_000):
        left_s, left = end_s - time.monotonic(), given.cycles - tally.faults.total()
        if left_s <= 0 or left <= 0 or (tally.violations and not given.keep_going):
            return
        plan = Plan(
            seed,
            LONG,
            kinds=given.faults,
            seconds=min(left_s, RUN_S),
            cycles_max=left,
            keeps_going=given.keep_going,
            logs=given.logs,
        )
        asyncio.run(Run(grounds, plan, tally).run())
        tally.tell(f"seed {seed} is judged: {tally.broken}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1_440.0, help="how long faults happen")
    parser.add_argument("--cycles", type=int, default=1_000_000, help="how many faults")
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--faults", type=_faults, default=frozenset(NAMES), help=f"some of: {', '.join(NAMES)}")
    parser.add_argument("--keep-going", action="store_true", help="also when a promise is broken")
    parser.add_argument("--logs", type=Path, help="a folder that keeps what the workers have said")
    given = parser.parse_args()
    if given.minutes == parser.get_default("minutes") and given.cycles == parser.get_default("cycles"):
        parser.error("say --minutes or --cycles")
    return given


def _faults(text: str) -> frozenset[str]:
    named = frozenset(word.strip() for word in text.split(","))
    if unknown := sorted(named.difference(NAMES)):
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no fault; give some of: {', '.join(NAMES)}")
    return named


if __name__ == "__main__":
    sys.exit(main())

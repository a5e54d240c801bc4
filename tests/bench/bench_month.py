"""A month of a support desk, by strategy: ``python -m tests.bench.bench_month --page FILE.html`` compares them.

What happens is ``month_model.py``'s, who gets what the router's own pools and queues (``month_loop.py``), held equal
to the whole decider by ``month_check.py``. Each strategy has a process; nothing depends on how many run at a time.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console

from tests.bench.bench_assign import print_rows
from tests.bench.month_model import STRATEGIES, Setting
from tests.bench.month_page import fairness_table, page, waits_table
from tests.bench.month_results import Result, result_of


def compared(setting: Setting, processes: int) -> list[Result]:
    """Every strategy's month."""
    slowest_first = STRATEGIES[::-1]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(partial(result_of, setting), slowest_first))
    return results[::-1]


def main(setting: Setting, path: Path | None, processes: int) -> bool:
    """Simulate, print, and write the page; False if the whole decider decided otherwise."""
    began_s = time.monotonic()
    results = compared(setting, processes)
    took_s = time.monotonic() - began_s
    for table in (waits_table(results), fairness_table(results)):
        print_rows(*table)
    say = Console(highlight=False).print
    say("seconds of CPU: " + ", ".join(f"{result.strategy} {result.cpu_s:.1f}" for result in results))
    say(f"{setting.days} days, seed {setting.seed}, {processes} processes: {took_s:.1f} s")
    if path is not None:
        path.write_text(page(setting, results, took_s), encoding="utf-8")
        say(f"written: {path}")
    differences = [each.checked.first_difference for each in results if each.checked.first_difference is not None]
    for difference in differences:
        say(f"the whole decider decided otherwise: {difference}")
    return not differences


def _arguments() -> argparse.Namespace:
    default = Setting()
    parser = argparse.ArgumentParser(description="Compare strategies over a simulated month of a desk.")
    parser.add_argument("--page", type=Path, help="the HTML file to write")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--days", type=int, default=default.days)
    parser.add_argument("--agents", type=int, default=default.agents)
    parser.add_argument("--conversations", type=int, default=default.conversations_a_day, help="a day")
    parser.add_argument("--processes", type=int, default=min(os.cpu_count() or 1, len(STRATEGIES)))
    return parser.parse_args()


if __name__ == "__main__":
    given = _arguments()
    chosen = Setting(seed=given.seed, days=given.days, agents=given.agents, conversations_a_day=given.conversations)
    sys.exit(0 if main(chosen, given.page, given.processes) else 1)

"""The whole workflow on one SQLite file, without HTTP: ``python -m tests.bench.bench_sqlite`` prints a table.

Each conversation is three inputs (opened, an invalid answer, the address), the CRM's answer, and its assignment. The
bare loop inserts the same rows, in as many transactions, and does nothing else: how far the disk and SQLite would go.
Latency is from the publishing of the CRM's answer by another process to the moment when a reader has the assignment.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from consumers.lane import Lane
from consumers.policy_book import PolicyBook
from consumers.runtime import tune_garbage_collection
from consumers.specs import ASSIGNER, ROUTER
from events.log import Log, NewRecord, StoredRecord, TopicPartition
from events.open_log import open_log
from events.times import format_time
from events.topics import ASSIGNMENTS, TOPICS, partition_counts
from tests.bench.printing import Row, print_table
from tests.bench.workload import Conversation, bench_policy

PUBLISH_BATCH = 500
LOOK_S = 0.005
RATE = 200  # conversations a second while latency is measured


def now_ms() -> int:
    """The clock of the bench."""
    return time.time_ns() // 1_000_000


class Throughput(NamedTuple):
    """One round."""

    conversations: int
    cpu_s: float
    wall_s: float
    batches: int


@asynccontextmanager
async def lanes_on(log: Log) -> AsyncIterator[list[Lane]]:
    """The router's and the assigner's lane, running."""
    book = PolicyBook({"default": bench_policy()})
    lanes = [Lane(log, spec, 0, book, clock=now_ms) for spec in (ROUTER, ASSIGNER)]
    stop = asyncio.Event()
    running = [asyncio.create_task(lane.run(stop)) for lane in lanes]
    try:
        yield lanes
    finally:
        stop.set()
        await asyncio.gather(*running)


async def publish(log: Log, talks: Sequence[Conversation], step: Callable[[Conversation], NewRecord]) -> None:
    """One input for each conversation, in batches."""
    for first in range(0, len(talks), PUBLISH_BATCH):
        await log.publish([step(talk) for talk in talks[first : first + PUBLISH_BATCH]])


async def until(reached: Callable[[], bool]) -> None:
    """Look until it is so."""
    while not reached():  # noqa: ASYNC110 - the lanes' counts, which tell nobody
        await asyncio.sleep(LOOK_S)


async def throughput(folder: Path, conversations: int) -> Throughput:
    """CPU and wall seconds from the inputs' being there to the last assignment's being decided and published."""
    counts = partition_counts(1, 1)
    async with open_log(f"sqlite:///{folder}/bench.db", create=counts) as log:
        talks = [Conversation(number, 1, format_time(now_ms() + 60_000)) for number in range(conversations)]
        for step in (Conversation.opened, Conversation.invalid, Conversation.valid):
            await publish(log, talks, step)
        gc.collect()
        began_cpu_s, began_s = time.process_time(), time.perf_counter()
        async with lanes_on(log) as (router, assigner):
            await until(lambda: router.counts["inputs"] >= 3 * conversations)
            await publish(log, talks, Conversation.crm_answer)
            await until(lambda: assigner.counts["inputs"] > conversations)  # one more: the policy's agents
        spent = Throughput(
            conversations,
            time.process_time() - began_cpu_s,
            time.perf_counter() - began_s,
            2 * (router.counts["batches"] + assigner.counts["batches"]),  # each append has its outputs' publish
        )
        assert await log.end_offset(TopicPartition(ASSIGNMENTS, 0)) == conversations
    return spent


def bare(folder: Path, batches: int) -> tuple[int, float]:
    """Insert the rows of the log that ``throughput`` has left, again, in as many transactions: rows and CPU seconds."""
    source = sqlite3.connect(folder / "bench.db")
    rows = source.execute('SELECT tp, "offset", time_ms, key, value, headers FROM record').fetchall()
    source.close()
    target = sqlite3.connect(folder / "bare.db", isolation_level=None)
    target.execute("PRAGMA journal_mode=WAL")
    target.execute("PRAGMA synchronous=FULL")
    target.execute(
        "CREATE TABLE record (tp INT, o INT, time_ms INT, key BLOB, value BLOB, headers BLOB, PRIMARY KEY (tp, o))"
        " WITHOUT ROWID"
    )
    size = -(-len(rows) // batches)
    began_s = time.process_time()
    for first in range(0, len(rows), size):
        target.execute("BEGIN IMMEDIATE")
        target.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", rows[first : first + size])
        target.execute("COMMIT")
    spent_s = time.process_time() - began_s
    target.close()
    return len(rows), spent_s


async def latency(folder: Path, conversations: int) -> list[float]:
    """Milliseconds from answer to assignment, at ``RATE`` conversations a second."""
    async with open_log(f"sqlite:///{folder}/latency.db", create=partition_counts(1, 1)) as log:
        talks = [Conversation(number, 1, format_time(now_ms() + 60_000)) for number in range(conversations)]
        async with lanes_on(log) as (router, _), open_log(f"sqlite:///{folder}/latency.db", create=None) as other:
            for step in (Conversation.opened, Conversation.invalid, Conversation.valid):
                await publish(log, talks, step)
            await until(lambda: router.counts["inputs"] >= 3 * conversations)
            published: dict[bytes, float] = {}
            seen: dict[bytes, float] = {}
            watching = asyncio.create_task(_watch(log, seen, conversations))
            for number, talk in enumerate(talks):
                record = talk.crm_answer()
                began_s = time.perf_counter()
                published[record.key or b""] = began_s
                await other.publish([record])
                due_s = (number + 1) / RATE - (time.perf_counter() - next(iter(published.values())))
                await asyncio.sleep(max(due_s, 0))
            await watching
    return [(seen[key] - at_s) * 1000 for key, at_s in published.items()]


async def _watch(log: Log, seen: dict[bytes, float], expected: int) -> None:
    reader = log.reader({TopicPartition(ASSIGNMENTS, 0): 0})
    while len(seen) < expected:
        records: Sequence[StoredRecord] = await reader.fetch(records_max=500, timeout_s=None)
        for record in records:
            seen.setdefault(record.key or b"", time.perf_counter())
    await reader.close()


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of all do not exceed."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def main(conversations: int = 5_000, rounds: int = 3, answers: int = 1_000) -> None:
    """Measure and print."""
    assert set(partition_counts(1, 1)) == set(TOPICS)
    tune_garbage_collection()
    rates: list[float] = []
    ratios: list[float] = []
    rows: list[Row] = []
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            spent = asyncio.run(throughput(Path(folder), conversations))
            stored, bare_s = bare(Path(folder), spent.batches)
        rates.append(conversations / spent.cpu_s)
        ratios.append(spent.cpu_s / bare_s)
        what = f"round {number + 1}: {conversations:,} conversations, {stored:,} rows"
        rows.append(Row(what, f"{rates[-1]:,.0f}", f"{conversations / bare_s:,.0f}"))
    rows.append(Row("median: conversations for each second of CPU", f"{statistics.median(rates):,.0f}"))
    rows.append(Row("median: x bare inserts", f"{statistics.median(ratios):.1f}"))
    with tempfile.TemporaryDirectory() as folder:
        times = asyncio.run(latency(Path(folder), answers))
    rows.append(Row(f"answer to assignment at {RATE}/s: p50, ms", f"{percentile(times, 0.5):.1f}"))
    rows.append(Row(f"answer to assignment at {RATE}/s: p99, ms", f"{percentile(times, 0.99):.1f}"))
    print_table("SQLite, end to end, without HTTP", ("", "vip-router", "bare inserts"), rows)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))

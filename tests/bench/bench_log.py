"""What the SQLite log costs beside bare SQLite: ``python tests/bench/bench_log.py`` prints a table.

Each line is the median of rounds that take turns, and says how it compares with the bare loop of the same run: figures
of different runs, or machines, say nothing about each other.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from events.log import NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
from events.sqlite.schema import CHECKPOINT_PAGES, PAGE_BYTES

ROUNDS = 5
BATCHES = 25  #: in a round
BATCH = 200  #: records
VALUE = os.urandom(400).hex().encode()
PARTITIONS = 4
WAKES = 100
LOG = "routing.log"
INPUT = "conversations.events"

RECORD_TABLE = (
    'CREATE TABLE record (tp INTEGER, "offset" INTEGER, time_ms INTEGER, key BLOB, value BLOB, headers BLOB,'
    ' PRIMARY KEY (tp, "offset")) WITHOUT ROWID'
)
CHILD = """
import asyncio, sys, time
from events.log import NewRecord
from events.sqlite.log import SqliteLog
async def main():
    async with SqliteLog(sys.argv[1]) as log:
        for _ in sys.stdin:
            await log.publish([NewRecord("conversations.events", 0, b"k", b"%d" % time.monotonic_ns())])
asyncio.run(main())
"""


class Measured(NamedTuple):
    """One round: records a second, and CPU microseconds (all threads) for each."""

    rate: float
    cpu_us: float


async def measured(count: int, work: Callable[[], Awaitable[None]]) -> Measured:
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    await work()
    took_s, took_cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    return Measured(count / took_s, took_cpu_s / count * 1e6)


class BareLoop:
    """The same inserts in the same transactions, with ``executemany`` and nothing around them."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for statement in (
            f"PRAGMA page_size = {PAGE_BYTES}",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
            f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
            RECORD_TABLE,
            'CREATE TABLE partition (tp INTEGER PRIMARY KEY, "end" INTEGER)',
        ):
            self.connection.execute(statement)
        self.ends = [0] * PARTITIONS

    async def write(self) -> None:
        for batch in range(BATCHES):
            tp = batch % PARTITIONS
            begin = self.ends[tp]
            rows = [(tp, begin + number, 1_780_000_000_000, b"contact-1", VALUE, None) for number in range(BATCH)]
            self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?)", rows)
            self.ends[tp] = begin + BATCH
            self.connection.execute("INSERT OR REPLACE INTO partition VALUES (?, ?)", (tp, self.ends[tp]))
            self.connection.execute("COMMIT")

    async def read(self) -> None:
        for begin in range(0, BATCHES * BATCH, 500):
            tp, offset = divmod(begin, BATCHES * BATCH // PARTITIONS)
            self.connection.execute(
                'SELECT * FROM record WHERE tp = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?', (tp, offset, 500)
            ).fetchall()


class Ours:
    """The same through the log."""

    def __init__(self, log: SqliteLog) -> None:
        self.log = log
        self.ends = [0] * PARTITIONS
        self.read_places = [TopicPartition(LOG, number) for number in range(PARTITIONS)]

    async def append(self) -> None:
        for batch in range(BATCHES):
            place = self.read_places[batch % PARTITIONS]
            records = [NewRecord(*place, b"contact-1", VALUE) for _ in range(BATCH)]
            appended = await self.log.append(place, records, expected=self.ends[place.partition])
            self.ends[place.partition] = appended.offset_next

    async def publish(self) -> None:
        for batch in range(BATCHES):
            await self._publish(batch)

    async def publish_together(self) -> None:
        await asyncio.gather(*(self._publish(batch) for batch in range(BATCHES)))

    async def publish_beside_work(self) -> None:
        """The event loop is never idle, as in a lane that decides."""
        busy = asyncio.ensure_future(_busy())
        await self.publish()
        busy.cancel()

    async def read(self) -> None:
        reader = self.log.reader(dict.fromkeys(self.read_places, 0))
        left = BATCHES * BATCH
        while left > 0:
            left -= len(await reader.fetch(records_max=500, timeout_s=None))
        await reader.close()

    async def _publish(self, batch: int) -> None:
        partition = batch % PARTITIONS
        await self.log.publish([NewRecord(INPUT, partition, b"contact-1", VALUE) for _ in range(BATCH)])


async def _busy() -> None:
    while True:
        sum(range(20_000))  # about 0.3 ms, as a few decisions
        await asyncio.sleep(0)


async def _publisher(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, str(path), stdin=asyncio.subprocess.PIPE)


async def wake_ups_ms(path: Path, *, across: bool) -> list[float]:
    """How long after the clock was read for a record a waiting reader has it: commit included."""
    async with SqliteLog(path) as log:
        place = TopicPartition(INPUT, 0)
        reader = log.reader({place: await log.end_offset(place)})
        child = await _publisher(path) if across else None
        took: list[float] = []
        for _ in range(WAKES):
            fetch = asyncio.ensure_future(reader.fetch(records_max=1, timeout_s=20))
            await asyncio.sleep(0.005)
            if child is not None and child.stdin is not None:
                child.stdin.write(b"\n")
                await child.stdin.drain()
            else:
                await log.publish([NewRecord(INPUT, 0, b"k", b"%d" % time.monotonic_ns())])
            (record,) = await fetch
            took.append((time.monotonic_ns() - int(record.value or b"0")) / 1e6)
        if child is not None and child.stdin is not None:
            child.stdin.close()
            await child.wait()
        return took


async def bench(folder: Path) -> Table:
    """Run everything and return the table."""
    path = folder / "log.db"
    bare = BareLoop(folder / "bare.db")
    count = BATCHES * BATCH
    rounds: dict[str, list[Measured]] = {}
    async with SqliteLog(path, create={LOG: PARTITIONS, INPUT: PARTITIONS}) as log:
        ours = Ours(log)
        lines = {
            "bare executemany": bare.write,
            "append": ours.append,
            "publish": ours.publish,
            "publish, 25 calls at once": ours.publish_together,
            "publish beside a busy loop": ours.publish_beside_work,
            "bare SELECT": bare.read,
            "fetch": ours.read,
        }
        for _ in range(ROUNDS):
            for name, work in lines.items():
                rounds.setdefault(name, []).append(await measured(count, work))
    bare.connection.close()
    table = Table("200 records of 800 bytes", "records/s", "CPU us/record", "rate beside bare", title="SQLite log")
    bare_rate = 1.0
    for name, results in rounds.items():
        rate = statistics.median(result.rate for result in results)
        cpu_us = statistics.median(result.cpu_us for result in results)
        bare_rate = rate if name.startswith("bare") else bare_rate
        table.add_row(name, f"{rate:,.0f}", f"{cpu_us:.1f}", f"{rate / bare_rate:.2f}")
    for name, across in (("wake-up, one process", False), ("wake-up, two processes", True)):
        took = sorted(await wake_ups_ms(path, across=across))
        table.add_row(name, f"p50 {statistics.median(took):.2f} ms", f"p99 {took[-2]:.2f} ms", "")
    return table


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        Console(width=100).print(asyncio.run(bench(Path(folder))))


if __name__ == "__main__":
    main()

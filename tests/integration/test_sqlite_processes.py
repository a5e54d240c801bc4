"""The SQLite log among processes: who wakes whom, who wins, and what a kill leaves."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from events.log import TopicPartition
from events.sqlite.log import SqliteLog

ROOT = Path(__file__).parents[2]
LOG = TopicPartition("routing.log", 0)
INPUT = TopicPartition("conversations.events", 0)
TOPICS = {"routing.log": 2, "conversations.events": 2}
PATIENCE_S = 60

PUBLISHER = """
import asyncio, sys
from events.log import NewRecord
from events.sqlite.log import SqliteLog
async def main():
    async with SqliteLog(sys.argv[1]) as log:
        for line in sys.stdin:
            await log.publish([NewRecord("conversations.events", 0, b"k", line.strip().encode())])
asyncio.run(main())
"""

CONTENDER = """
import asyncio, sys
from events.log import FencedError, NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
LOG = TopicPartition("routing.log", 0)
async def main():
    name, count = sys.argv[2].encode(), int(sys.argv[3])
    async with SqliteLog(sys.argv[1], busy_timeout_ms=60_000) as log:
        sys.stdin.readline()
        done = 0
        while done < count:
            end = await log.end_offset(LOG)
            try:
                await log.append(LOG, [NewRecord(*LOG, name, b"%d.%d" % (done, n)) for n in range(3)], expected=end)
            except FencedError:
                continue
            done += 1
asyncio.run(main())
"""

#: Appends to two partitions at once and prints what was acknowledged, for ever.
APPENDER = """
import asyncio, sys
from events.log import NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
async def append(log, partition):
    place, turn = TopicPartition("routing.log", partition), 0
    end = await log.end_offset(place)
    while True:
        size = 1 + turn % 5
        records = [NewRecord(*place, b"%d" % size, b"%d." % turn + b"x" * 500) for _ in range(size)]
        end = (await log.append(place, records, expected=end)).offset_next
        sys.stdout.write(f"{partition} {end}\\n")
        sys.stdout.flush()
        turn += 1
async def main():
    async with SqliteLog(sys.argv[1], clock_ms=lambda: 1) as log:
        await asyncio.gather(append(log, 0), append(log, 1))
asyncio.run(main())
"""

FILLER = """
import asyncio, json, resource, sys
from events.log import LogUnavailableError, NewRecord, TopicPartition
from events.sqlite.log import SqliteLog
LOG = TopicPartition("routing.log", 0)
async def main():
    async with SqliteLog(sys.argv[1]) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        end = 0
        try:
            while True:
                end = (await log.append(LOG, [NewRecord(*LOG, b"k", b"x" * 3_000)] * 5, expected=end)).offset_next
        except LogUnavailableError as error:
            print(json.dumps({"end": end, "error": str(error), "read": await log.end_offset(LOG)}))
asyncio.run(main())
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )


async def made(path: Path) -> None:
    async with SqliteLog(path, create=TOPICS):
        pass


def check_survived(offsets: list[int], turns: list[int], acknowledged: int) -> None:
    """The appends of ``APPENDER``, turn n having 1 + n % 5 records, stand whole, in order, and as acknowledged."""
    assert offsets == list(range(len(turns)))
    assert acknowledged <= len(turns) <= acknowledged + 5, "one append may have been on its way"
    whole = [turn for turn in range(len(turns)) for _ in range(1 + turn % 5)]
    assert turns == whole[: len(turns)]
    assert not turns or turns.count(turns[-1]) == 1 + turns[-1] % 5


async def test_another_process_wakes_a_reader(tmp_path: Path) -> None:
    """A fetch that waits returns what another process publishes."""
    path = tmp_path / "log.db"
    async with SqliteLog(path, create=TOPICS) as log:
        reader = log.reader({INPUT: 0})
        with child(PUBLISHER, path) as publisher:
            assert publisher.stdin is not None
            for turn in range(5):
                fetch = asyncio.ensure_future(reader.fetch(records_max=10, timeout_s=None))
                await asyncio.sleep(0)
                publisher.stdin.write(f"{turn}\n")
                publisher.stdin.flush()
                records = await asyncio.wait_for(fetch, PATIENCE_S)
                assert [record.value for record in records] == [b"%d" % turn]
            publisher.stdin.close()
            assert publisher.wait(PATIENCE_S) == 0


async def test_processes_that_contend_never_share_an_offset(tmp_path: Path) -> None:
    """Three processes append to one partition: every append stands once, whole, and in its process' order."""
    path, count = tmp_path / "log.db", 30
    await made(path)
    contenders = [child(CONTENDER, path, name, count) for name in ("a", "b", "c")]
    for contender in contenders:
        await asyncio.to_thread(contender.communicate, "go\n", PATIENCE_S)
        assert contender.returncode == 0
    async with SqliteLog(path) as log:
        records = (await log.read(LOG, 0, records_max=10_000)).records
    assert [record.offset for record in records] == list(range(3 * count * 3))
    for at in range(0, len(records), 3):
        piece = records[at : at + 3]
        turn = (piece[0].value or b"").partition(b".")[0]
        assert [(record.key, record.value) for record in piece] == [
            (piece[0].key, turn + b".%d" % number) for number in range(3)
        ]
    for name in (b"a", b"b", b"c"):
        turns = [record.value for record in records if record.key == name]
        assert turns == [b"%d.%d" % (turn, number) for turn in range(count) for number in range(3)]


@pytest.mark.parametrize("seed", range(10))
async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, seed: int) -> None:
    """After kill -9 at a random moment everything acknowledged is there, the rest wholly or not at all."""
    path = tmp_path / "log.db"
    await made(path)
    lines_max = random.Random(seed).randrange(1, 400)
    acknowledged = [0, 0]
    with child(APPENDER, path) as appender:
        assert appender.stdout is not None
        for _ in range(lines_max):
            partition, end = map(int, appender.stdout.readline().split())
            acknowledged[partition] = end
        appender.send_signal(signal.SIGKILL)
        for line in appender.stdout:
            if line.endswith("\n"):
                partition, end = map(int, line.split())
                acknowledged[partition] = end
    assert appender.returncode == -signal.SIGKILL
    async with SqliteLog(path) as log:
        for partition in (0, 1):
            place = TopicPartition("routing.log", partition)
            found = await log.read(place, 0, records_max=100_000)
            assert found.offset_next == await log.end_offset(place)
            turns = [int((record.value or b"").partition(b".")[0]) for record in found.records]
            check_survived([record.offset for record in found.records], turns, acknowledged[partition])


@pytest.mark.parametrize(
    ("offsets", "turns", "acknowledged"),
    [
        ([0, 1, 2], [0, 1, 1], 6),  # an acknowledged append is gone
        ([0, 1], [0, 1], 1),  # half of the last append
        ([0, 2, 3], [0, 2, 2], 0),  # a hole
        ([0, 1, 2], [1, 1, 0], 0),  # another order
        (list(range(15)), [turn for turn in range(5) for _ in range(turn + 1)], 3),  # more than was on its way
    ],
)
def test_the_check_of_survivors_sees_losses(offsets: list[int], turns: list[int], acknowledged: int) -> None:
    """What a log that is not durable, or not atomic, would leave turns the check red."""
    check_survived([0, 1, 2], [0, 1, 1], 3)
    with pytest.raises(AssertionError):
        check_survived(offsets, turns, acknowledged)


async def test_a_disk_that_takes_no_more_loses_nothing(tmp_path: Path) -> None:
    """When writes fail in the middle the error says so, and exactly what was acknowledged is there."""
    path = tmp_path / "log.db"
    await made(path)
    with child(FILLER, path) as filler:
        output, _ = await asyncio.to_thread(filler.communicate, "", PATIENCE_S)
    assert filler.returncode == 0
    told = json.loads(output)
    assert "check the disk and its free space" in told["error"]
    assert told["end"] == told["read"] > 0
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 400_000
    async with SqliteLog(path) as log:
        assert await log.end_offset(LOG) == told["end"]
        assert (await log.append(LOG, [], expected=told["end"])).offset_next == told["end"]

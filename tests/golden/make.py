"""Makes a golden log: ``python -m tests.golden.make N`` runs scenario N through today's lanes into ``log-N.jsonl``.

A golden log is made once, when records have got a new form, and kept for ever: whatever was written once must be read,
verified and decided the same by every later version. Never overwrite one.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path
from unittest import mock

import orjson

from consumers.lane import Lane
from consumers.policy_book import PolicyBook
from consumers.specs import ASSIGNER, ROUTER
from events.log import NewRecord, TopicPartition
from events.memory import MemoryLog
from events.topics import AGENT_EVENTS, ASSIGNMENTS, partition_counts
from tests.golden import stored
from tests.golden.scenario import START_MS, Step, policy, steps
from tests.simulation.virtual_loop import run_virtual

PARTITIONS = partition_counts(2, 1)


class _Id:
    """What ``uuid4`` gives while a golden log is made."""

    def __init__(self, number: int) -> None:
        self.hex = f"{number:032x}"


async def make(number: int) -> list[bytes]:
    """Run a scenario; the store as lines."""
    loop = asyncio.get_running_loop()

    def clock() -> int:
        return START_MS + round(loop.time() * 1000)

    log = MemoryLog(cluster_id="golden", clock_ms=clock)
    await log.create_topics(PARTITIONS)
    book = PolicyBook({"default": policy(number)})
    lanes = [Lane(log, ROUTER, partition, book, clock=clock) for partition in range(2)]
    lanes.append(Lane(log, ASSIGNER, 0, book, clock=clock))
    stop = asyncio.Event()
    with mock.patch("consumers.restore.uuid4", side_effect=map(_Id, count(1))):
        running = [asyncio.create_task(lane.run(stop)) for lane in lanes]
        for step in steps(number):
            await _play(step, log)
        await asyncio.sleep(60)
        stop.set()
        await asyncio.gather(*running)
    return await stored.dump(log)


async def _play(step: Step, log: MemoryLog) -> None:
    """Virtual time: everything that a step leads to is done long before the next one."""
    await asyncio.sleep(step.after_s)
    value = await _answered(step.value, log) if step.topic == AGENT_EVENTS else step.value
    await log.publish([NewRecord(step.topic, step.partition, step.key.encode(), value)])


async def _answered(value: bytes, log: MemoryLog) -> bytes:
    """An answer whose token is ``@<conversation>`` is given by who was offered it last."""
    event = orjson.loads(value)
    wanted = event["data"].get("token", "")
    if not wanted.startswith("@"):
        return value
    count = await log.partition_count(ASSIGNMENTS)
    fetched = [await log.read(TopicPartition(ASSIGNMENTS, p), 0, records_max=10_000) for p in range(count)]
    told = [orjson.loads(record.value or b"") for part in fetched for record in part.records]
    offers = [one for one in told if one["type"] == "conversation.offered" and one["subject"] == wanted[1:]]
    event["subject"], event["data"]["token"] = offers[-1]["data"]["agent"], offers[-1]["data"]["token"]
    return orjson.dumps(event)


def main(number: int) -> None:
    """Write the file, unless it is there."""
    lines = run_virtual(make(number))
    path = Path(__file__).with_name(f"log-{number}.jsonl")
    with path.open("xb") as file:
        file.writelines(line + b"\n" for line in lines)


if __name__ == "__main__":
    main(int(sys.argv[1]))

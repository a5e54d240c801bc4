"""What is particular to the memory log: it runs on virtual time, and every run is the same."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Awaitable, Callable

import pytest

from events.log import FencedError, NewRecord, TopicPartition
from events.memory import MemoryLog

PLACES = [TopicPartition("routing.log", number) for number in range(3)]


class VirtualSelector(selectors.DefaultSelector):
    """Waits no time: what the loop would wait is added to its clock."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += timeout or 0.0
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose hours pass at once."""

    def __init__(self) -> None:
        self.virtual = VirtualSelector()
        super().__init__(self.virtual)

    def time(self) -> float:
        return self.virtual.now_s


async def scenario(seed: int) -> list[str]:
    """Writers contend and readers follow, all with pauses; returns what happened, in order."""
    loop, happened, pause = asyncio.get_running_loop(), [""], random.Random(seed)
    log = MemoryLog(cluster_id="x", clock_ms=lambda: int(loop.time() * 1000), topics={"routing.log": 3})

    async def write(name: str) -> None:
        for turn in range(20):
            await asyncio.sleep(pause.random() * 100)
            place = PLACES[pause.randrange(3)]
            end = await log.end_offset(place)
            try:
                await log.append(place, [NewRecord(*place, name.encode(), b"%d" % turn)], expected=end)
            except FencedError as error:
                happened.append(f"{name} {error}")

    async def follow(name: str) -> None:
        reader = log.reader(dict.fromkeys(PLACES, 0))
        while True:
            records = await reader.fetch(records_max=3, timeout_s=30)
            happened.extend(f"{name} {record}" for record in records)
            happened.append(f"{name} at {loop.time():.6f}")

    async with asyncio.TaskGroup() as group:
        followers = [group.create_task(follow(name)) for name in ("r", "s")]
        await asyncio.gather(write("a"), write("b"), write("c"))
        for follower in followers:
            follower.cancel()
    return happened


def run(seed: int) -> list[str]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(scenario(seed))


def test_a_run_repeats_itself_in_virtual_time() -> None:
    """The same seed gives the same history to the last detail, another seed another; hours take no time."""
    first = run(1)
    assert first == run(1) != run(2)
    assert sum("StoredRecord" in line for line in first) >= 100


async def without_end(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        await call()


async def test_no_task_starves() -> None:
    """Every call gives way: a task that calls without end does not keep the others from running."""
    log = MemoryLog(cluster_id="x", clock_ms=lambda: 0, topics={"routing.log": 3, "crm.answers": 1})
    reader = log.reader(dict.fromkeys(PLACES, 0))
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: log.append(PLACES[0], [], expected=0),
        lambda: log.publish([]),
        lambda: log.end_offset(PLACES[0]),
        lambda: log.read(PLACES[0], 0, records_max=1),
        lambda: log.commit("g", {}),
        lambda: log.committed("g", []),
        lambda: reader.fetch(records_max=1, timeout_s=0),
        reader.end_offsets,
    )
    for call in calls:
        task = asyncio.ensure_future(without_end(call))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

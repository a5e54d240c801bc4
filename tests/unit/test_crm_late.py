"""Look-ups that failed are kept trying: with growing pauses, few at a time, until an answer or their deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from consumers.crm.asks import Ask
from consumers.crm.late import LATE_IN_FLIGHT_MAX, LateLookUps
from consumers.crm.outcomes import Answered, Failed, LookUp
from events.log import TopicPartition
from events.topics import ROUTING_LOG
from tests.crm_support import EMAIL, NOW_MS

ANSWER = Answered(status=200, variables={}, personal={}, notes={}, attempts=1, latency_ms=3)
FAILURE = Failed(reason="time-out", attempts=3)
MINUTE_MS = 60_000


def ask(number: int, *, for_ms: int = 30 * MINUTE_MS) -> Ask:
    look_up = LookUp(
        workspace="default", contact=f"c-{number}", conversation=f"v-{number}", lookup_id=f"v-{number}/2",
        email=EMAIL, deadline_ms=NOW_MS + for_ms,
    )  # fmt: skip
    return Ask(TopicPartition(ROUTING_LOG, 0), number, 2, look_up, "sha256:x", 1, True)


class Desk:
    """Time that passes only while somebody sleeps, a CRM with planned outcomes, and what came of the asks."""

    def __init__(self, *outcomes: Answered | Failed) -> None:
        self.now_ms = NOW_MS
        self.outcomes = list(outcomes)
        self.tried_ms: list[int] = []
        self.ended: list[tuple[int, Answered | None]] = []
        self.at_once = self.most_at_once = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.late = LateLookUps(
            self.look_up, self.end, clock=lambda: self.now_ms, sleep=self.sleep, random_fraction=lambda: 1.0
        )

    async def look_up(self, ask: Ask) -> Answered | Failed:
        assert ask.look_up.deadline_ms > self.now_ms
        self.tried_ms.append(self.now_ms - NOW_MS)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        return self.outcomes.pop(0) if self.outcomes else FAILURE

    def end(self, ask: Ask, outcome: Answered | None) -> None:
        self.ended.append((ask.offset, outcome))

    async def sleep(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.late.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until_ended(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.ended) < count:  # noqa: ASYNC110 - time passes only while tasks take turns
                await asyncio.sleep(0)


async def test_it_is_tried_with_growing_pauses_until_it_is_answered() -> None:
    desk = Desk(FAILURE, FAILURE, FAILURE, ANSWER)
    async with desk.running():
        desk.late.add(ask(7))
        await desk.until_ended(1)
    assert desk.ended == [(7, ANSWER)]
    assert desk.tried_ms == [5_000, 15_000, 35_000, 75_000]
    assert len(desk.late) == 0


async def test_it_ends_at_its_deadline_without_a_try_beyond_it() -> None:
    desk = Desk()
    async with desk.running():
        desk.late.add(ask(7, for_ms=60_000))
        await desk.until_ended(1)
    assert desk.ended == [(7, None)]
    assert desk.tried_ms == [5_000, 15_000, 35_000]
    assert desk.now_ms == NOW_MS + 60_000


async def test_no_pause_is_longer_than_five_minutes() -> None:
    desk = Desk()
    async with desk.running():
        desk.late.add(ask(7, for_ms=60 * MINUTE_MS))
        await desk.until_ended(1)
    pauses = [later - earlier for earlier, later in zip(desk.tried_ms, desk.tried_ms[1:], strict=False)]
    assert max(pauses) == 5 * MINUTE_MS
    assert len(pauses) > 10


async def test_few_are_tried_at_a_time_and_none_is_left_out() -> None:
    desk = Desk(*[ANSWER] * 50)
    desk.gate.clear()
    async with desk.running():
        for number in range(50):
            desk.late.add(ask(number))
        while desk.at_once < LATE_IN_FLIGHT_MAX:  # noqa: ASYNC110 - see above
            await asyncio.sleep(0)
        desk.gate.set()
        await desk.until_ended(50)
    assert desk.most_at_once == LATE_IN_FLIGHT_MAX
    assert sorted(offset for offset, _ in desk.ended) == list(range(50))


async def test_a_fault_in_a_try_ends_it() -> None:
    """It is not swallowed: whoever runs it has to know."""
    desk = Desk()

    async def broken(_ask: Ask) -> Answered | Failed:
        raise RuntimeError("fault")

    late = LateLookUps(broken, desk.end, clock=lambda: desk.now_ms, sleep=desk.sleep, random_fraction=lambda: 1.0)
    late.add(ask(1))
    with pytest.raises(ExceptionGroup) as raised:
        async with asyncio.timeout(30):
            await late.run()
    assert raised.group_contains(RuntimeError, match="fault")

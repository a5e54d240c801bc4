"""Positions committed for people who watch lag: what moved, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from consumers import committing
from consumers.committing import Committing
from consumers.telemetry.views import LaneFigures
from events.log import LogError, LogUnavailableError, TopicPartition
from events.memory import MemoryLog
from events.topics import CONVERSATION_EVENTS, CRM_ANSWERS, partition_counts

EVENTS_1 = TopicPartition(CONVERSATION_EVENTS, 1)
ANSWERS_1 = TopicPartition(CRM_ANSWERS, 1)
EVENTS_2 = TopicPartition(CONVERSATION_EVENTS, 2)


class FakeLane:
    """A lane that stands as it is told."""

    def __init__(self, partition: int, **positions: int) -> None:
        self.partition = partition
        self.positions = {CONVERSATION_EVENTS: positions["events"], CRM_ANSWERS: positions["answers"]}

    def figures(self) -> LaneFigures:
        return LaneFigures(self.partition, 7, self.positions, None, is_full=False, passed_ms=None)


class Noted(MemoryLog):
    """A log that notes what is committed, and fails if it is told to."""

    def __init__(self) -> None:
        super().__init__(cluster_id="c", clock_ms=lambda: 0, topics=partition_counts(4, 1))
        self.commits: list[Mapping[TopicPartition, int]] = []
        self.error: LogError | None = None
        self.is_stuck = False
        self.committing = asyncio.Event()

    async def commit(self, group: str, positions: Mapping[TopicPartition, int]) -> None:
        self.commits.append(dict(positions))
        self.committing.set()
        if self.is_stuck:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        await super().commit(group, positions)


async def test_what_moved_is_committed_as_the_roles_group() -> None:
    log = Noted()
    one, two = FakeLane(1, events=5, answers=0), FakeLane(2, events=0, answers=0)
    telling = Committing(log, "router")
    await telling.commit([one, two])
    one.positions[CONVERSATION_EVENTS] = 6
    await telling.commit([one, two])
    await telling.commit([one, two])
    assert log.commits[1:] == [{EVENTS_1: 6}]
    assert await log.committed("router", [EVENTS_1, ANSWERS_1, EVENTS_2]) == {EVENTS_1: 6, ANSWERS_1: 0, EVENTS_2: 0}


async def test_a_partition_that_comes_back_is_committed_anew() -> None:
    """Somebody else may have committed less than it stands at now."""
    log, lane = Noted(), FakeLane(1, events=5, answers=0)
    telling = Committing(log, "router")
    await telling.commit([lane])
    telling.forget([lane])
    await telling.commit([lane])
    assert log.commits == [{EVENTS_1: 5, ANSWERS_1: 0}] * 2


@pytest.mark.parametrize("error", [LogUnavailableError("away"), LogError("not allowed")])
async def test_what_cannot_be_committed_is_left_for_the_next_time(error: LogError) -> None:
    """Also what will never be allowed ends nothing."""
    log, lane = Noted(), FakeLane(1, events=5, answers=0)
    telling = Committing(log, "router")
    log.error = error
    await telling.commit([lane])
    log.error = None
    await telling.commit([lane])
    assert await log.committed("router", [EVENTS_1]) == {EVENTS_1: 5}


async def test_a_log_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "COMMIT_TIMEOUT_S", 0.01)
    log, lane = Noted(), FakeLane(1, events=5, answers=0)
    log.is_stuck = True
    async with asyncio.timeout(30):
        await Committing(log, "router").commit([lane])


async def test_it_is_done_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the lanes of the moment."""
    monkeypatch.setattr(committing, "COMMIT_EVERY_S", 0.0)
    log, lanes = Noted(), [FakeLane(1, events=5, answers=0)]
    running = asyncio.create_task(Committing(log, "router").often(lambda: lanes))
    async with asyncio.timeout(30):
        await log.committing.wait()
        lanes[:] = [FakeLane(2, events=8, answers=1)]
        while EVENTS_2 not in log.commits[-1]:
            log.committing.clear()
            await log.committing.wait()
    running.cancel()
    await asyncio.wait([running])

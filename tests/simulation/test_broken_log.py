"""What the log itself may do to lanes: lose its end, be made anew, tell another time. They stop; they never go on.

A log that was cut has broken the promises for them, so the oracles do not judge these runs. What is held here is that
no lane works on with a state that the log does not tell.
"""

import asyncio
from random import Random
from unittest.mock import patch

import pytest

from consumers import restore as restore_module
from consumers.lane_clock import ClockError
from consumers.snapshots import LANE, Snapshots
from consumers.specs import ROUTER
from events.chain import ChainError, link_of
from events.log import OffsetOutOfRangeError, TopicPartition
from events.topics import ROUTING_LOG
from tests.simulation import setting
from tests.simulation.broker import Broker
from tests.simulation.faults import Faults
from tests.simulation.faulty_log import FaultyLog
from tests.simulation.observer import Observer
from tests.simulation.outside import Producers
from tests.simulation.processes import Process, track_tasks
from tests.simulation.virtual_loop import run_virtual
from tests.simulation.workload import Said

PLACE = TopicPartition(ROUTING_LOG, 0)
STOPS = (ChainError, OffsetOutOfRangeError)


class Bench:
    """One partition of the router, with processes and openings by hand."""

    def __init__(self, *, plain):
        self.broker = Broker(contacts=1, workspaces=1, plain=plain, joins=False, clock_ms=self.now_ms)
        self.observer = Observer(self.broker)
        self.faults = Faults(Random(1))
        self.producers = Producers(self.broker, Random(1), repeat_rate=0, foreign_rate=0)
        self.opened = 0

    def now_ms(self):
        return setting.START_MS + int(asyncio.get_running_loop().time() * 1_000)

    def start(self, name, *, skew_ms=0):
        asyncio.get_running_loop().set_task_factory(track_tasks)  # type: ignore[arg-type] # typeshed lags behind
        port = FaultyLog(self.broker, self.faults, self.observer, name)
        process = Process(port, self.observer, ROUTER, 0, setting.book(0), skew_ms=skew_ms)
        process.start()
        return process

    async def open(self, conversations):
        """So many contacts open a conversation, and the lanes have time to decide it."""
        for _ in range(conversations):
            self.opened += 1
            contact = f"k{self.opened}"
            data = {"contact": {"id": contact}}
            await self.producers.follow([Said(0, "conversation.opened", f"{contact}e", contact, None, contact, data)])
        await asyncio.sleep(1)


async def cut(bench):
    """An owner is stalled, the log loses two records that he knew, and another owner writes on."""
    first = bench.start("first")
    await bench.open(12)
    first.port.stalled_until_s = asyncio.get_running_loop().time() + 100
    await bench.open(1)  # the first has decided it, its append hangs
    bench.broker.cut(PLACE, 2)
    second = bench.start("second")
    await bench.open(4)
    await asyncio.sleep(200)
    return [first, second]


def without_checks():
    """Neither ``log-id`` nor ``after`` are looked at."""
    return patch.object(restore_module, "follows", lambda record, **_: link_of(record).progress)


@pytest.mark.parametrize("plain", [False, True])
def test_a_lane_whose_log_was_cut_stops(plain):
    """The owner who knew what is gone ends with an error, not with a state of his own."""

    async def main():
        bench = Bench(plain=plain)
        first, second = await cut(bench)
        assert isinstance(first.fault_of_ours(), STOPS)
        assert second.is_running or isinstance(second.fault_of_ours(), STOPS)
        assert not bench.observer.violations

    run_virtual(main())


def test_without_the_checks_a_lane_goes_on_with_what_is_gone():
    """The planted omission: the live observer sees a state that the log does not tell."""

    async def main():
        bench = Bench(plain=False)
        await cut(bench)
        return {violation.oracle for violation in bench.observer.violations}

    with without_checks():
        assert "restored" in run_virtual(main())


async def cut_below_snapshot(bench):
    """The log loses what its newest snapshot was taken of, and others write on."""
    first = bench.start("first")
    await bench.open(14)
    newest = max(end for place, key, end, _ in bench.observer.snapshot_entries if (place, key) == (PLACE, LANE))
    await first.crashed()
    bench.broker.cut(PLACE, bench.broker.end(PLACE) - newest + 2)
    with patch.object(Snapshots, "begin", lambda *_: None):  # so that the newest one stays the one of what is gone
        second = bench.start("second")
        await bench.open(4)
        await second.crashed()
    assert bench.broker.end(PLACE) > newest


def test_a_snapshot_of_what_was_cut_is_not_used():
    """It does not fit the log: a new owner folds from the beginning and works."""

    async def main():
        bench = Bench(plain=False)
        await cut_below_snapshot(bench)
        third = bench.start("third")
        await bench.open(1)
        assert third.is_running
        assert not bench.observer.violations

    run_virtual(main())


def test_taking_a_snapshot_on_trust_ends_the_lane():
    """The planted omission: a snapshot of what was cut is loaded, and the log does not follow it."""

    async def trusting(_self, _snapshot):
        return True

    async def main():
        bench = Bench(plain=False)
        await cut_below_snapshot(bench)
        with patch.object(Snapshots, "_fits", trusting):
            third = bench.start("third")
            await bench.open(1)
        assert isinstance(third.fault_of_ours(), ChainError)

    run_virtual(main())


def test_a_clock_far_from_the_logs_stops_the_lane():
    """By more than the limit, where the log has a clock of its own; a lane whose clock is off by less works."""

    async def main():
        bench = Bench(plain=True)
        limit_ms = setting.LIMITS.clock_stop_ms
        off, near = bench.start("off", skew_ms=limit_ms + 5_000), None
        await bench.open(1)
        near = bench.start("near", skew_ms=limit_ms - 5_000)
        await bench.open(1)
        assert isinstance(off.fault_of_ours(), ClockError)
        assert near.is_running

    run_virtual(main())


def test_nonsense_of_another_log_does_not_exist():
    """On a log of plain records a record at the right offset, but of another log, is dropped by every reader."""

    async def main():
        bench = Bench(plain=True)
        first = bench.start("first")
        await bench.open(1)
        bench.broker.intrude(PLACE)
        await bench.open(1)
        assert first.is_running
        assert not bench.observer.violations
        return [record.offset for record in bench.broker.records(PLACE)], bench.broker.end(PLACE)

    offsets, end = run_virtual(main())
    assert len(offsets) < end
    assert offsets[-1] == end - 1

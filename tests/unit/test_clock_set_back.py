"""A lane whose machine's clock jumped forward and was put right: it works on, and deadlines keep their length.

The log is a SQLite file, whose times are this machine's. The loop's time is a number that the test moves, and so is the
clock: nothing here depends on how long anything takes.
"""

import asyncio
import logging

import orjson
import pytest

from consumers.audit.replay import replay
from consumers.audit.verify import verify
from consumers.lane import Lane
from consumers.policy_book import PolicyBook
from consumers.specs import ASSIGNER, ROUTER
from events.log import NewRecord, TopicPartition
from events.memory import MemoryLog
from events.sqlite.log import SqliteLog
from events.times import format_time
from events.topics import CONVERSATION_EVENTS, ROUTING_LOG, partition_counts
from tests.stories import policy

NOON_MS = 1_795_300_000_000
HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
LENGTHS_S = {"answer": 12 * 3_600, "crm": 15}
LATE = 1.011  #: a deadline lasts a hundredth longer while the log is ahead, and the lane looks at most so much later
INPUT, LOG = TopicPartition(CONVERSATION_EVENTS, 0), TopicPartition(ROUTING_LOG, 0)


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its time is a number: timers are due when somebody moves it."""

    now_s = 1_000.0

    def time(self):
        return self.now_s


class Machine:
    """The clock of the machine that everything runs on, and how time passes there."""

    def __init__(self):
        self.now_ms = NOON_MS

    def __call__(self):
        return self.now_ms

    def elapse(self, seconds):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SteppedLoop)
        loop.now_s += seconds
        self.now_ms += round(seconds * 1_000)


class Office:
    """The lanes over one log from ``start`` to ``stop``, and what is said to them."""

    def __init__(self, log, machine):
        self.log = log
        self.machine = machine
        self.records = []  #: of the router's log

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()

    async def start(self):
        book = PolicyBook({"default": policy()})
        self._stop = asyncio.Event()
        self.lanes = [Lane(self.log, spec, 0, book, clock=self.machine) for spec in (ROUTER, ASSIGNER)]
        self._tasks = [asyncio.create_task(lane.run(self._stop)) for lane in self.lanes]
        await self.log.create_topics(partition_counts(1, 1))
        self._reader = self.log.reader({LOG: 0})
        self.records.clear()
        self._end = 0

    async def stop(self):
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._reader.close()

    async def open(self, conversation, **contact):
        """A contact opens a conversation; the record that this makes."""
        event = {
            "specversion": "1.0", "id": f"e-{conversation}", "source": "/chat", "type": "conversation.opened",
            "time": format_time(self.machine.now_ms), "subject": conversation,
            "data": {"contact": {"id": f"c-{conversation}", **contact}},
        }  # fmt: skip
        await self.log.publish([NewRecord(*INPUT, f"c-{conversation}".encode(), orjson.dumps(event))])
        while not (found := [record for record in self.records if record["subject"] == conversation]):
            await self._read()
        while self.lanes[0].figures().end < self._end:  # the file has it, and the lane is being told
            self._check()
            await asyncio.sleep(0)
        return found[0]

    async def _read(self):
        """Wait for records; raises what ended a lane meanwhile."""
        fetching = asyncio.create_task(self._reader.fetch(records_max=100, timeout_s=None))
        await asyncio.wait({fetching, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        if not fetching.done():
            fetching.cancel()
            self._check()
        found = fetching.result()
        self._end = found[-1].offset + 1
        self.records += [{"subject": None, **orjson.loads(record.value)} for record in found]

    def _check(self):
        for task in self._tasks:
            if task.done():
                raise AssertionError("a lane has ended") from task.exception()

    async def passed(self, conversation, kind):
        """The times at which deadlines of this kind fired, once the lane has looked."""
        for number in range(2):  # a deadline fires at the latest together with the second
            await self.open(f"{conversation}-{kind}-{self.machine.now_ms}-{number}")
        told = [(record, record["data"].get("input") or {}) for record in self.records]
        return [
            record["data"]["at"]
            for record, given in told
            if record["subject"] == conversation and (given.get("type"), given.get("kind")) == ("deadline.passed", kind)
        ]


async def jump_and_back(office, ms):
    """Something is decided before the clock jumps, and while it is wrong."""
    await office.open("before")
    office.machine.now_ms += ms
    await office.open("meanwhile")
    office.machine.now_ms -= ms


async def check(log):
    """Times in the log never fall, no deadline fired early, and every decision is made again as it was."""
    assert (await verify(log)).first_difference is None
    assert (await replay(log)).first_difference is None


def run(main):
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main)


@pytest.mark.parametrize("jump_ms", [HOUR_MS, YEAR_MS], ids=["an hour", "a year"])
def test_a_lane_works_on_after_its_clock_jumped_and_was_put_right(tmp_path, jump_ms, caplog):
    """The one that was there, and the next ones: what is said is decided, however far the log is ahead."""
    caplog.set_level(logging.WARNING)
    machine = Machine()

    async def main():
        async with SqliteLog(tmp_path / "log.db", create=partition_counts(1, 1), clock_ms=machine) as log:
            async with Office(log, machine) as office:
                await jump_and_back(office, jump_ms)
                first = await office.open("after")
            for number in range(3):
                machine.elapse(1)
                caplog.clear()
                async with Office(log, machine) as office:
                    await office.open(f"restarted-{number}")
                assert f"routing.log/0: the log is {jump_ms / 1_000 - 1 - number:.0f}." in caplog.text
            await check(log)
            assert first["data"]["at"] >= format_time(NOON_MS + jump_ms)

    run(main())


@pytest.mark.parametrize("kind", LENGTHS_S)
@pytest.mark.parametrize("jump_ms", [HOUR_MS, YEAR_MS], ids=["an hour", "a year"])
@pytest.mark.parametrize("restarted", [False, True], ids=["same owner", "next owner"])
def test_a_deadline_set_while_the_log_is_ahead_passes_after_its_length(tmp_path, kind, jump_ms, restarted):
    """Not a second earlier, and not when the clock has caught up: for who set it, and for who takes over then."""
    machine = Machine()
    contact = {} if kind == "answer" else {"email": "ann@example.com"}

    async def main():
        async with (
            SqliteLog(tmp_path / "log.db", create=partition_counts(1, 1), clock_ms=machine) as log,
            Office(log, machine) as office,
        ):
            await jump_and_back(office, jump_ms)
            await office.open("waits", **contact)
            if restarted:
                await office.stop()
                await office.start()
                await office.open("taken over")
            machine.elapse(LENGTHS_S[kind] - 1)
            assert await office.passed("waits", kind) == []
            machine.elapse(1 + LENGTHS_S[kind] * (LATE - 1))
            assert len(await office.passed("waits", kind)) == 1
            await check(log)

    run(main())


@pytest.mark.parametrize("jump_ms", [HOUR_MS, YEAR_MS], ids=["an hour", "a year"])
def test_a_deadline_wakes_a_lane_that_nobody_talks_to(tmp_path, jump_ms):
    """How long it waits goes by the same time as what is due."""
    machine = Machine()

    async def main():
        async with (
            SqliteLog(tmp_path / "log.db", create=partition_counts(1, 1), clock_ms=machine) as log,
            Office(log, machine) as office,
        ):
            await jump_and_back(office, jump_ms)
            await office.open("waits", email="ann@example.com")
            assert 14.9 < office.lanes[0]._wait_s() <= 15
            machine.elapse(14)
            assert 1 <= office.lanes[0]._wait_s() < 1.2

    run(main())


class SlowEnds(MemoryLog):
    """While a lane asks how far its inputs reach, the clock goes back by ``back_ms``. It can hold inputs back, too."""

    back_ms = 0
    is_held = False

    def __init__(self, machine):
        super().__init__(cluster_id="memory", clock_ms=machine, topics=partition_counts(1, 1), joins_outputs=True)
        self.machine = machine

    async def ends(self, places):
        self.machine.now_ms -= self.back_ms
        self.back_ms = 0
        return await super().ends(places)

    async def take(self, wanted, *, records_max):
        if self.is_held:
            wanted = [want for want in wanted if want.place != INPUT]
        return await super().take(wanted, records_max=records_max)

    def release(self):
        self.is_held = False
        self.bell.ring(INPUT)


async def hold_back(office):
    """Something is said that the lane knows of and cannot read yet; the task ends when it was decided."""
    office.log.is_held = True
    opening = asyncio.create_task(office.open("held back"))
    await settle()
    return opening


async def settle():
    """Nothing in memory needs more turns than these to come to rest."""
    for _ in range(100):
        await asyncio.sleep(0)


def test_a_deadline_is_never_recorded_before_it_is_due_although_the_clock_is_put_back_just_then():
    """The time that it was found to have passed at is the time that is recorded."""
    machine = Machine()

    async def main():
        log = SlowEnds(machine)
        async with Office(log, machine) as office:
            await office.open("waits", email="ann@example.com")
            log.back_ms = HOUR_MS
            machine.now_ms += HOUR_MS
            assert len(await office.passed("waits", "crm")) <= 1
            await check(log)

    run(main())


def test_deadlines_that_had_passed_only_by_the_wrong_clock_do_not_fire_after_it_was_put_right():
    """They waited for inputs that were there before them, and meanwhile the clock went back."""
    machine = Machine()

    async def main():
        log = SlowEnds(machine)
        async with Office(log, machine) as office:
            await office.open("asked")
            await office.open("looked up", email="ann@example.com")
            opening = await hold_back(office)
            machine.now_ms += 13 * HOUR_MS
            machine.elapse(20)
            await settle()
            assert office.lanes[0].figures().passed_ms == machine.now_ms
            machine.now_ms -= 13 * HOUR_MS
            log.release()
            await opening
            assert len(await office.passed("looked up", "crm")) == 1
            assert await office.passed("asked", "answer") == []
            await check(log)

    run(main())


def test_how_long_passed_deadlines_wait_is_told_by_the_machines_clock():
    """Whoever watches has no other: with the log's time an hour ahead a wait would be hidden for an hour."""
    machine = Machine()

    async def main():
        log = SlowEnds(machine)
        async with Office(log, machine) as office:
            await jump_and_back(office, HOUR_MS)
            await office.open("waits", email="ann@example.com")
            opening = await hold_back(office)
            machine.elapse(20)
            await settle()
            assert office.lanes[0].figures().passed_ms == machine.now_ms
            log.release()
            await opening

    run(main())

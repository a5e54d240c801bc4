"""The CRM role: follows ``routing.log``, runs the look-ups that its records ask for, writes ``crm.answers``.

Looking up is ``consumers/crm/client.py``'s business, reading records and writing answers ``consumers/crm/asks.py``'s.
What an answer leads to, and the deadline that covers one that never comes, are the router's.

Look-ups end in any order; what is committed is the lowest that has not ended. After a crash only those that were on
their way are asked again, and the router takes the first answer to each. A look-up is on its way until its answer is
durable, so their bound also bounds what waits for a log that cannot be written.

A look-up that has failed may be kept trying (``consumers/crm/late.py``) while its conversation goes on; then it is not
finished, and a successor goes on with it.

An ask whose deadline had passed before it was read is done only if the log does not say that it was decided without:
``consumers/crm/overdue.py``. Like the router, the role gives what it takes over its full time.

Look-ups that wait in some line of the client are on their way too, so that those behind them in the log, for other
hosts or with an answer in the cache, go past. Hence the high bound: one that waits costs some 5 KiB.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeVar

from msgspec.structs import replace

from consumers.crm.asks import Ask, AskError, RecordedPolicies, answer_record, read_ask
from consumers.crm.bounds import Bounds
from consumers.crm.late import LateLookUps
from consumers.crm.outcomes import Answered, Failed, LookUp
from consumers.crm.overdue import Overdue
from consumers.crm.watermark import Watermark
from events.log import Log, LogError, NewRecord, Reader, RecordTooLargeError, StoredRecord, TopicPartition
from events.topics import ROUTING_LOG
from routing.policy import Policy

GROUP: Final = "crm"
OVERDUE_MAX: Final = 200_000  #: some 1 KiB each
COMMIT_EVERY_S: Final = 1.0
FETCH_RECORDS_MAX: Final = 512
PUBLISH_RECORDS_MAX: Final = 256
AT_END_AFTER_S: Final = 0.05  #: without records; only then the log is asked whether it has more: that costs round trips
LOOK_AGAIN_S: Final = 0.5  #: when the log says that it has more than it hands out
REPEAT_FIRST_S: Final = 0.1  #: the longest wait before the first repetition; it doubles
REPEAT_MAX_S: Final = 5.0

ResultT = TypeVar("ResultT")

_log = logging.getLogger(__name__)


class LooksUp(Protocol):
    """What the role needs of ``CrmClient``."""

    async def look_up(self, ask: LookUp, policy: Policy) -> Answered | Failed:
        """One look-up, start to end; raises nothing but the cancellation of its task."""


class _Outgoing(NamedTuple):
    """An answer that is not durable yet."""

    ask: Ask
    record: NewRecord


class CrmConsumer:
    """The role over some partitions of ``routing.log``. ``clock`` gives Unix milliseconds.

    ``bounds`` bounds the look-ups on their way; further asks wait in the log, in order. What one workspace has beyond
    its share fails as ``overloaded``, so that it does not stop the others. ``cached`` knows answers that need no
    looking up (``CrmClient.cached``). At a stop those on their way get ``drain_s`` to end; what has not ended then is
    asked again by the next run.
    """

    def __init__(
        self,
        log: Log,
        partitions: Sequence[int],
        *,
        client: LooksUp,
        clock: Callable[[], int],
        bounds: Bounds | None = None,
        cached: Callable[[LookUp, Policy], Answered | None] = lambda _ask, _policy: None,
        drain_s: float = 5.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        self._log = log
        self._places = [TopicPartition(ROUTING_LOG, partition) for partition in partitions]
        self._client = client
        self._clock = clock
        self._drain_s = drain_s
        self._sleep = sleep
        self._random_fraction = random_fraction
        self._policies = RecordedPolicies(log)
        self._bounds = bounds or Bounds()
        self.is_ready = False  #: it knows where to begin, and reads
        self._cached = cached
        self._on_their_way: Counter[str] = Counter()  #: by workspace
        self._late = LateLookUps(
            self._look_up_once, self._end_late, clock=clock, sleep=sleep, random_fraction=random_fraction
        )
        self._overdue = Overdue(OVERDUE_MAX)
        self._barrier: dict[TopicPartition, int] | None = None  #: how far to read before overdue ones are started
        self._begun_ms = 0  #: what was asked for before is given its full time from here
        self._lookups: set[asyncio.Task[None]] = set()
        self._marks: dict[TopicPartition, Watermark] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._outbox: list[_Outgoing] = []
        self._ready = asyncio.Event()  #: the outbox has something
        self._moved = asyncio.Event()  #: a watermark may have moved
        self._quiet = asyncio.Event()  #: no look-up is on its way
        self._quiet.set()
        self._at_end = False

    def is_idle(self) -> bool:
        """Nothing is on its way, and the log had nothing more when it was last looked at."""
        return self._at_end and self._quiet.is_set()

    async def is_caught_up(self) -> bool:
        """Whether all look-ups that the log asks for now have ended, but for those that are only kept trying."""
        for place, mark in dict(self._marks).items():
            if mark.read < await self._log.end_offset(place):
                return False
        return not self._on_their_way.total() and not self._overdue

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``; then let look-ups end and commit. Raises the ``LogError`` that no repetition mends."""
        await self._take_over()
        reader = self._log.reader(self._committed)
        self.is_ready = True
        try:
            async with asyncio.TaskGroup() as tasks:
                follower = tasks.create_task(self._follow(reader, tasks))
                helpers = [
                    tasks.create_task(work) for work in (self._publish(), self._commit_often(), self._late.run())
                ]
                await stop.wait()
                follower.cancel()
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._drain_s):
                        await self._quiet.wait()
                for task in (*helpers, *self._lookups):
                    task.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._at_end = self.is_ready = False
            for workspace in self._on_their_way.elements():  # others go on within these bounds
                self._bounds.leave(workspace)
            self._on_their_way.clear()
            await reader.close()
        await self._commit()

    async def _take_over(self) -> None:
        """Begin where the group stands, or else where the log starts."""
        self._committed = await self._log.committed(GROUP, self._places)
        for place in self._places:
            if place not in self._committed:
                self._committed[place] = await self._log.start_offset(place)
        self._marks = {place: Watermark(offset) for place, offset in self._committed.items()}
        self._overdue.release()
        self._barrier = None
        self._begun_ms = self._clock()

    async def _follow(self, reader: Reader, tasks: asyncio.TaskGroup) -> None:
        while True:
            records = await self._repeated(lambda: self._fetch(reader, tasks), "reading")
            for record in records:
                await self._see(record, tasks)
            self._note_read(reader)
            if self._overdue:
                await self._repeated(lambda: self._settle_overdue(reader, tasks), "reading the log's end")

    async def _fetch(self, reader: Reader, tasks: asyncio.TaskGroup) -> Sequence[StoredRecord]:
        """The next records; waits at the log's end, and knows that it is there."""
        self._at_end = False
        records = await reader.fetch(records_max=FETCH_RECORDS_MAX, timeout_s=AT_END_AFTER_S)
        if records:
            return records
        ends = await reader.end_offsets()
        at_end = _has_reached(reader, ends)
        if at_end:
            self._note_read(reader)  # it may have passed what does not exist, and nothing more comes
            await self._start_overdue(tasks)
        self._at_end = at_end
        timeout_s = None if at_end else LOOK_AGAIN_S
        records = await reader.fetch(records_max=FETCH_RECORDS_MAX, timeout_s=timeout_s)
        self._at_end = False
        return records

    def _note_read(self, reader: Reader) -> None:
        for place, mark in self._marks.items():
            mark.read_to(reader.position(place))
        self._moved.set()

    async def _see(self, record: StoredRecord, tasks: asyncio.TaskGroup) -> None:
        """Start the look-up that a record asks for, if it asks and somebody still waits for it."""
        settled = self._overdue.settled_by(record)
        if settled is not None:
            self._marks[settled.place].finish(settled.offset)
        try:
            ask = read_ask(record)
        except AskError as problem:
            _log.error("not looked up, the router's deadline covers it: %s", problem)
            return
        if ask is None:
            return
        if not ask.is_late:
            await self._take(ask, tasks)
        elif self._is_in_time(ask):
            self._marks[ask.place].begin(ask.offset)
            self._late.add(ask)

    async def _take(self, ask: Ask, tasks: asyncio.TaskGroup) -> None:
        """Start a look-up when there is a place for it; one whose deadline has passed by then is kept, if it can be."""
        if self._is_in_time(ask):
            await self._bounds.enter()
            if self._is_in_time(ask):
                self._marks[ask.place].begin(ask.offset)
                self._start(ask, tasks)
                return
            self._bounds.slots.release()
        if self._overdue.keep(ask):
            self._marks[ask.place].begin(ask.offset)

    async def _settle_overdue(self, reader: Reader, tasks: asyncio.TaskGroup) -> None:
        """Start what was kept once the log was read to where it ended after that: the router still waits for those."""
        if self._barrier is None:
            self._barrier = await reader.end_offsets()
        if _has_reached(reader, self._barrier):
            await self._start_overdue(tasks)

    async def _start_overdue(self, tasks: asyncio.TaskGroup) -> None:
        self._barrier = None
        asks = self._overdue.release()
        if asks:
            self._begun_ms = self._clock()
            _log.info("%d look-ups past their deadline, which nobody was there to do, get their full time", len(asks))
        for ask in asks:
            await self._bounds.enter()
            self._start(ask, tasks)

    def _start(self, ask: Ask, tasks: asyncio.TaskGroup) -> None:
        """Start a look-up that has a place within the bounds."""
        self._quiet.clear()
        workspace = ask.look_up.workspace
        self._on_their_way[workspace] += 1
        self._bounds.held[workspace] += 1
        policy = self._policies.known(ask)
        answered = None if policy is None else self._cached(ask.look_up, policy)
        if answered is not None:
            self._answer(ask, answered)
            return
        if self._bounds.held[workspace] > self._bounds.workspace_max:
            self._answer(ask, Failed(reason="overloaded", attempts=0))
            return
        task = tasks.create_task(self._look_up(ask))
        self._lookups.add(task)
        task.add_done_callback(self._lookups.discard)

    def _is_in_time(self, ask: Ask) -> bool:
        return ask.look_up.deadline_ms > self._clock()

    async def _look_up(self, ask: Ask) -> None:
        self._answer(ask, await self._look_up_once(ask))

    async def _look_up_once(self, ask: Ask) -> Answered | Failed:
        try:
            policy = await self._repeated(lambda: self._policies.of(ask), "reading a policy")
            look_up = ask.look_up
            if not ask.is_late:
                full_ms = self._begun_ms + policy.crm.deadline_ms
                look_up = replace(look_up, deadline_ms=max(look_up.deadline_ms, full_ms))
            return await self._client.look_up(look_up, policy)
        except AskError as problem:
            _log.error("not looked up: %s", problem)
            return Failed(reason="unusable-policy", attempts=0)

    def _end_late(self, ask: Ask, outcome: Answered | None) -> None:
        """One that was kept trying is answered, or its time is over: the router need not hear of that."""
        if outcome is not None:
            self._answer(ask, outcome)
            return
        self._marks[ask.place].finish(ask.offset)
        self._moved.set()

    def _answer(self, ask: Ask, outcome: Answered | Failed) -> None:
        if isinstance(outcome, Failed):
            _log.info(
                "look-up of %s/%d at offset %d failed: %s (attempts: %d)",
                *ask.place, ask.offset, outcome.reason, outcome.attempts,
            )  # fmt: skip
        self._outbox.append(_Outgoing(ask, answer_record(ask, outcome, now_ms=self._clock())))
        self._ready.set()

    async def _publish(self) -> None:
        """Publish what is in the outbox, batch after batch: the next one only after the one before is durable."""
        while True:
            await self._ready.wait()
            self._ready.clear()
            while self._outbox:
                batch = self._outbox[:PUBLISH_RECORDS_MAX]
                await self._repeated(partial(self._deliver, batch), "publishing answers")
                del self._outbox[: len(batch)]
                self._settle(batch)

    async def _deliver(self, batch: Sequence[_Outgoing]) -> None:
        """Publish a batch; leaves out what no topic takes, which the router's deadline covers."""
        records = [answer.record for answer in batch]
        while records:
            try:
                await self._log.publish(records)
            except RecordTooLargeError as error:
                _log.error("an answer is not published, the router's deadline covers it: %s", error)
                del records[error.index]
            else:
                return

    def _settle(self, batch: Sequence[_Outgoing]) -> None:
        for answer in batch:
            self._marks[answer.ask.place].finish(answer.ask.offset)
            if not answer.ask.is_late:
                self._bounds.leave(answer.ask.look_up.workspace)
                self._on_their_way[answer.ask.look_up.workspace] -= 1
        if not self._on_their_way.total():
            self._quiet.set()
        self._moved.set()

    async def _commit_often(self) -> None:
        while True:
            await self._moved.wait()
            self._moved.clear()
            await self._commit()
            await self._sleep(COMMIT_EVERY_S)

    async def _commit(self) -> None:
        """Commit the watermarks that have moved; one that cannot be is committed later, or its look-ups repeat."""
        moved = {place: mark.position for place, mark in self._marks.items() if mark.position != self._committed[place]}
        if not moved:
            return
        try:
            await self._log.commit(GROUP, moved)
        except LogError as error:
            if not error.retriable:
                raise
            _log.warning("committing the CRM consumer's position failed, it will be tried again: %s", error)
            self._moved.set()
        else:
            self._committed.update(moved)

    async def _repeated(self, call: Callable[[], Awaitable[ResultT]], what: str) -> ResultT:
        """The result of ``call``, repeated for as long as the log's errors may pass; other errors are raised."""
        repetitions = 0
        while True:
            try:
                return await call()
            except LogError as error:
                if not error.retriable:
                    raise
                _log.warning("%s failed, it is repeated: %s", what, error)
            wait_s = min(REPEAT_MAX_S, REPEAT_FIRST_S * 2 ** min(repetitions, 16))
            await self._sleep(wait_s * self._random_fraction())
            repetitions += 1


def _has_reached(reader: Reader, ends: Mapping[TopicPartition, int]) -> bool:
    return all(reader.position(place) >= end for place, end in ends.items())

"""The lane: the one writer of one partition of one log.

It restores the state, merges its inputs, decides, appends on condition, and publishes what follows. The same code runs
the router's and the assigner's decider. Whoever else believes that he owns the partition can at most write records that
do not exist: an append that is not acknowledged where it was expected sends the lane back to the log's end.

Deciding a batch is ``deciding.py``, folding ``restore.py``, outputs ``publisher.py``, snapshots ``snapshots.py``, what
time it is ``lane_clock.py``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import random
from typing import Any, Final

from consumers.deciding import Batch, Deciding, Input
from consumers.lane_clock import LaneClock
from consumers.lane_spec import LaneLimits, LaneSpec
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.publisher import Publisher, publish_all
from consumers.restore import Tail, check_positions, ensure_genesis, fold, starting_positions
from consumers.snapshots import Snapshots
from consumers.telemetry.views import LaneFigures
from events.chain import Entry, Progress, seal
from events.log import (
    FencedError,
    IndefiniteError,
    Log,
    LogError,
    OffsetOutOfRangeError,
    Reader,
    StoredRecord,
    TopicPartition,
)
from events.outputs import Origin
from events.records import LANE_TYPES, POLICY_RECORDED, Moment, hash_of, lane_positions, parse
from events.topics import ASSIGNMENT_REQUESTS, ASSIGNMENTS, DEAD_LETTERS
from routing.decider import LaneState
from routing.inputs import Event

logger = logging.getLogger(__name__)

PAUSE_AFTER_FENCE_S: Final = 0.05
PAUSE_MAX_S: Final = 5.0  #: between take-overs while another owner keeps appending


@dataclass(frozen=True, slots=True)
class Barrier:
    """Deadlines that had passed at ``at_ms`` fire once all inputs below ``ends`` are decided."""

    at_ms: int
    seen_ms: int  #: what the machine's clock said then
    ends: dict[TopicPartition, int]


class Lane:
    """One partition's writer. ``run`` is its life; the rest says how it is doing."""

    def __init__(
        self,
        log: Log,
        spec: LaneSpec,
        partition: int,
        book: PolicyBook,
        *,
        clock: Callable[[], int],
        limits: LaneLimits | None = None,
    ) -> None:
        self._log = log
        self._spec = spec
        self._place = TopicPartition(spec.log_topic, partition)
        self._book = book
        self._limits = limits or LaneLimits()
        self._clock = LaneClock(self._place, clock, self._limits)
        self._policies = LanePolicies(book)
        self._state = spec.new_state()
        self._snapshots = Snapshots(log, spec, partition)
        self._tail: Tail | None = None
        self._barrier: Barrier | None = None
        self._edition = -1
        self.counts: Counter[str] = Counter()  #: inputs, records, batches, aside, fenced, ignored deadlines ...
        self.is_ready = False  #: it has taken over and reads

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then finish: outputs sent, positions recorded.

        Raises ``LogError`` when the log cannot be used any more; nothing acknowledged is lost, a new lane goes on.
        """
        loop = asyncio.get_running_loop()
        pause_s, began_s = PAUSE_AFTER_FENCE_S, loop.time()
        while not await self._own_once(stop):
            if stop.is_set():
                return  # whoever comes next goes on from what the log says
            self.counts["taken over again"] += 1
            # Two owners with different policies answer each other for as long as both are there: let it be slow then.
            in_peace = loop.time() - began_s > PAUSE_MAX_S
            pause_s = PAUSE_AFTER_FENCE_S if in_peace else min(pause_s * 2, PAUSE_MAX_S)
            # Never in step: on plain records each would move the end under the other's feet, for ever.
            await asyncio.sleep(pause_s * (0.5 + random()))  # noqa: S311 - no secret
            began_s = loop.time()

    @property
    def state(self) -> LaneState:
        """What it decides over, for whoever watches; provisional while an append is on its way."""
        return self._state

    def is_idle(self) -> bool:
        """Whether there was nothing left to do, when it last looked, but to wait for inputs or deadlines."""
        return self.is_ready and self._quiet and self._publisher.mark is None

    async def is_caught_up(self) -> bool:
        """Whether all inputs that there are now were decided."""
        for topic, position in dict(self._positions).items():
            if position < await self._log.end_offset(TopicPartition(topic, self._place.partition)):
                return False
        return True

    def figures(self) -> LaneFigures:
        """How it stands, for whoever watches; little is known before the first take-over."""
        publisher: Publisher | None = getattr(self, "_publisher", None)
        return LaneFigures(
            partition=self._place.partition,
            end=0 if self._tail is None else self._tail.end,
            positions=getattr(self, "_positions", {}),
            mark=None if publisher is None else publisher.mark,
            is_full=publisher is not None and publisher.is_full,
            passed_ms=None if self._barrier is None else self._barrier.seen_ms,
            snapshot_end=self._snapshots.end,
        )

    # --- taking over ---

    async def _own_once(self, stop: asyncio.Event) -> bool:
        """Take over, work; True when stopped, False when somebody else has appended."""
        tail = await self._take_over()
        places = await starting_positions(self._log, tail, list(self._spec.decoders), self._place.partition)
        self._positions = {place.topic: offset for place, offset in places.items()}
        reader = self._log.reader({**places, self._place: tail.end})
        publishing = asyncio.create_task(self._publisher.run())
        try:
            if not await self._work(reader, stop, publishing):
                return False
            return await self._finish(publishing)
        except OffsetOutOfRangeError:
            await check_positions(self._log, {place: reader.position(place) for place in places})
            raise  # it is the lane's own log that does not reach so far
        finally:
            self.is_ready = False
            publishing.cancel()
            with suppress(asyncio.CancelledError, LogError):  # what ended it was raised in the work above
                await publishing
            await reader.close()
            await self._snapshots.settle()

    async def _take_over(self) -> Tail:
        if self._tail is None:
            log_id = await ensure_genesis(self._log, self._place, Moment.at(self._clock.now_ms()))
            self._tail = Tail(log_id=log_id)
            await self._snapshots.load(self._state, self._tail, self._policies)
        tail = self._tail
        self._state.discard()
        self._policies.discard(tail.end)
        folded = await fold(self._log, self._place, self._state, tail, self._policies)
        self._snapshots.note(self._state.confirm(), folded)
        self._clock.recorded(tail.at_ms)
        self._state.taken_over(self._clock.now_ms())  # after the fold: a record of somebody else may be that new
        self._recorded_at_ms = tail.at_ms  # not now: positions that could not be recorded are due again at once
        self._unrecorded = 0
        self._barrier = None
        self._edition = -1
        self._quiet = False
        origin = await self._origin(tail.log_id)
        self._deciding = Deciding(
            self._spec, self._state, self._policies, origin, self._limits,
            home_partitions=await self._log.partition_count(self._place.topic),
            dead_letter_partitions=await self._log.partition_count(DEAD_LETTERS),
        )  # fmt: skip
        self._publisher = Publisher(self._log, backlog_max=self._limits.backlog_max)
        await self._republish(tail, origin)
        self._unmarked = self._publisher.mark is not None
        return tail

    async def _origin(self, log_id: str) -> Origin:
        return Origin(
            self._place.topic,
            self._place.partition,
            log_id,
            contact_partitions=await self._log.partition_count(ASSIGNMENTS),
            workspace_partitions=await self._log.partition_count(ASSIGNMENT_REQUESTS),
        )

    async def _republish(self, tail: Tail, origin: Origin) -> None:
        """Queue every output from the mark on, before anything new: a predecessor may not have sent them."""
        position = tail.mark
        while position < tail.end:
            fetched = await self._log.read(self._place, position, records_max=1_000)
            for stored in fetched.records:
                if stored.offset < tail.end:  # what came since is not folded: the lane will see it and take over again
                    self._queue_again(stored, origin)
            position = fetched.offset_next

    def _queue_again(self, stored: StoredRecord, origin: Origin) -> None:
        record = parse(stored)
        if record.type in LANE_TYPES or record.type == POLICY_RECORDED:
            return
        outputs = self._spec.outputs(record, origin)
        if outputs:
            self._publisher.add(stored.offset, outputs)

    # --- working ---

    async def _work(self, reader: Reader, stop: asyncio.Event, publishing: asyncio.Task[None]) -> bool:
        """Read, decide, append, until ``stop`` (True) or until somebody else has appended (False)."""
        stopping = asyncio.create_task(stop.wait())
        fetching = self._fetch(reader)
        self.is_ready = True
        try:
            while not stop.is_set():
                self._quiet = True
                await asyncio.wait(
                    {fetching, stopping, publishing}, timeout=self._wait_s(), return_when=asyncio.FIRST_COMPLETED
                )
                self._quiet = False
                records: Sequence[StoredRecord] = ()
                if fetching.done():
                    records = fetching.result()
                    fetching = self._fetch(reader)  # the next are gathered while these are decided and appended
                await self._until_room(publishing)
                if not await self._advance(records, reader):
                    return False
            return True
        finally:
            for task in (stopping, fetching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    def _fetch(self, reader: Reader) -> asyncio.Task[Sequence[StoredRecord]]:
        return asyncio.create_task(reader.fetch(records_max=self._limits.inputs_max, timeout_s=None))

    async def _until_room(self, publishing: asyncio.Task[None]) -> None:
        """Wait while too many outputs are not confirmed; raises what ended the publisher."""
        if self._publisher.is_full:
            room = asyncio.create_task(self._publisher.until_room())
            try:
                await asyncio.wait({room, publishing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                room.cancel()
        if publishing.done():
            publishing.result()

    def _wait_s(self) -> float:
        """How long to wait for inputs before something is due, seconds."""
        due_ms = self._state.next_due_ms()
        if self._edition != self._book.edition:
            return 0.0
        if due_ms is None or self._barrier is not None:
            return self._limits.wait_max_s
        return min(max((due_ms - self._clock.now_ms()) / 1_000, 0.0), self._limits.wait_max_s)

    async def _advance(self, records: Sequence[StoredRecord], reader: Reader) -> bool:
        """Decide what is there and append it; False when somebody else has appended to this log."""
        tail = self._known_tail()
        inputs: list[Input] = []
        for record in records:
            if record.topic != self._place.topic:
                inputs.append(record)
            elif record.offset >= tail.end:
                logger.warning("%s/%d: a record that is not ours at offset %d", *self._place, record.offset)
                return False
        inputs.extend(self._configuration())
        now = Moment.at(self._clock.now_ms())
        inputs.extend(await self._passed_deadlines(inputs, reader, now.ms))
        while inputs:
            batch = self._deciding.decide(inputs, end=tail.end, now=now)
            del inputs[: batch.inputs]
            if not await self._store(batch, now):
                return False
        if self._positions_are_due(now) and not await self._record_positions(now):
            return False
        reader.seek(self._place, tail.end)  # what we wrote ourselves need not be read
        return True

    def _known_tail(self) -> Tail:
        assert self._tail is not None
        return self._tail

    def _configuration(self) -> list[Event]:
        """What the policies tell the decider, at take-over and whenever they were exchanged."""
        if self._edition == self._book.edition:
            return []
        self._edition = self._book.edition
        if self._spec.configure is None:
            return []
        events = [self._spec.configure(name, self._book.current(name)) for name in self._book.workspaces()]
        return [event for event in events if self._deciding.is_home(event)]

    async def _passed_deadlines(self, inputs: Sequence[Input], reader: Reader, now_ms: int) -> list[Event]:
        """The deadlines to decide after ``inputs``: an answer that was there in time comes first."""
        due_ms = self._state.next_due_ms()
        if due_ms is None or due_ms > now_ms:
            self._barrier = None
            return []
        if self._barrier is None:
            ends = await reader.end_offsets()
            ends = {place: end for place, end in ends.items() if place != self._place}
            self._barrier = Barrier(now_ms, self._clock.machine_ms(), ends)
        reached = dict(self._positions)
        reached.update({item.topic: item.offset + 1 for item in inputs if isinstance(item, StoredRecord)})
        if any(reached.get(place.topic, 0) < end for place, end in self._barrier.ends.items()):
            return []
        at_ms, self._barrier = min(self._barrier.at_ms, now_ms), None  # the clock may have been put back meanwhile
        return self._state.due(at_ms, self._limits.deadlines_max)

    # --- storing ---

    async def _store(self, batch: Batch, now: Moment) -> bool:
        """Append a batch; what was set aside is safe before the positions pass it."""
        self.counts["inputs"] += batch.inputs
        if batch.aside:
            await publish_all(self._log, batch.aside)
            self.counts["aside"] += len(batch.aside)
        self._positions.update(batch.positions)
        self._unrecorded += batch.inputs
        if not batch.entries:
            self._state.confirm()
            return True
        return await self._append(batch.entries, batch.outputs, now)

    async def _append(self, entries: Sequence[Entry], outputs: Sequence[tuple[int, Any]], now: Moment) -> bool:
        tail = self._known_tail()
        mark = self._publisher.mark
        joined = self._log.joins_outputs and mark is None  # then nothing that was decided before waits to be sent
        end = tail.end + len(entries) if joined else tail.end
        progress = Progress(positions=dict(self._positions), mark=end if mark is None else mark)
        records = seal(self._place, entries, expected=tail.end, log_id=tail.log_id, after=tail.after, progress=progress)
        try:
            done = await self._log.append(
                self._place,
                records,
                expected=tail.end,
                outputs=[output for _, made in outputs for output in made] if joined else (),
            )
        except (FencedError, IndefiniteError) as error:
            logger.warning("%s/%d: append at %d: %r; folding to the end", *self._place, tail.end, error)
            self.counts["fenced"] += 1
            return False
        tail.end = done.offset_next
        tail.after = entries[-1].hash
        tail.at_ms = now.ms
        self._clock.recorded(now.ms)
        tail.advance(progress)
        self._recorded_at_ms = now.ms
        self._unrecorded = 0
        self.counts["records"] += len(entries)
        self.counts["batches"] += 1
        self._unmarked = not joined and (mark is not None or bool(outputs))
        if not joined:
            for offset, made in outputs:
                self._publisher.add(offset, made)
        self._snapshots.note(self._state.confirm(), len(entries))
        if self._snapshots.records >= self._limits.snapshot_records:
            self._snapshots.begin(self._state, tail, self._policies)
        if self._log.keeps_time:
            self._clock.compare(done.time_ms)
        return True

    def _positions_are_due(self, now: Moment) -> bool:
        if self._unrecorded == 0:
            return False
        return (
            self._unrecorded >= self._limits.positions_inputs
            or now.ms - self._recorded_at_ms >= self._limits.positions_interval_ms
        )

    async def _record_positions(self, now: Moment) -> bool:
        tail = self._known_tail()
        value = lane_positions(self._place.topic, self._place.partition, tail.end, now)
        return await self._append([Entry(b"", value, hash_of(value))], (), now)

    async def _finish(self, publishing: asyncio.Task[None]) -> bool:
        """A clean stop: all outputs out, then the positions and the mark, so that a successor repeats nothing."""
        emptied = asyncio.create_task(self._publisher.until_empty())
        await asyncio.wait({emptied, publishing}, return_when=asyncio.FIRST_COMPLETED)
        if publishing.done():
            emptied.cancel()
            publishing.result()
        if self._unrecorded or self._unmarked:
            await self._record_positions(Moment.at(self._clock.now_ms()))
        return True

"""Planted omissions in outputs, time and snapshots. See ``omissions.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final
from unittest.mock import patch

from consumers import publisher as publisher_module
from consumers.lane import Lane
from consumers.publisher import Publisher, publish_all
from consumers.restore import Tail
from consumers.snapshots import LANE, Snapshots
from events.log import IndefiniteError, NewRecord
from routing.contacts import Contacts
from routing.inputs import Event
from routing.workspaces import Workspaces
from tests.simulation.omissions import BUSY, Omission, omission


def output_before_append() -> Any:
    """Outputs are queued when they are decided, not when their append is confirmed."""
    real = Lane._append

    async def append(self: Lane, entries: Any, outputs: Any, now: Any) -> bool:
        for offset, made in outputs:
            self._publisher.add(offset, made)
        return await real(self, entries, (), now)

    return patch.object(Lane, "_append", append)


def publish_pipelined() -> Any:
    """The next batch leaves before the one before it is confirmed."""

    async def publish_some(self: Publisher) -> None:
        waiting = list(self._queue)
        await asyncio.gather(*(publish_all(self._log, each.outputs) for each in waiting))
        for each in waiting:
            self._queue.popleft()
            self._backlog -= len(each.outputs)
        self._changed.set()

    return patch.object(Publisher, "_publish_some", publish_some)


def skip_failed_publish() -> Any:
    """A publish that nobody can say was taken is not repeated."""

    async def publish_once(log: Any, records: Sequence[NewRecord], **_: object) -> None:
        try:
            await log.publish(records)
        except IndefiniteError:
            return

    return patch.object(publisher_module, "publish_all", publish_once)


def mark_highest() -> Any:
    """The mark is the newest output under way, not the oldest."""
    return patch.object(Publisher, "mark", property(lambda self: self._queue[-1].offset if self._queue else None))


async def _nothing(*_: Any) -> None:
    return None


def no_republish() -> Any:
    """A successor does not publish from the mark on."""
    return patch.object(Lane, "_republish", _nothing)


def backlog_last() -> Any:
    """A successor publishes what it took over newest first."""
    real = Lane._republish

    async def republish(self: Lane, tail: Tail, origin: Any) -> None:
        await real(self, tail, origin)
        self._publisher._queue.reverse()

    return patch.object(Lane, "_republish", republish)


def stop_without_mark() -> Any:
    """A clean stop sends all outputs but does not say so in the log."""

    async def finish(self: Lane, _publishing: Any) -> bool:
        await self._publisher.until_empty()
        return True

    return patch.object(Lane, "_finish", finish)


def no_barrier() -> Any:
    """A deadline fires as soon as it has passed, whatever lies in the inputs."""

    async def passed(self: Lane, *_: Any) -> list[Event]:
        return self._state.due(self._clock.now_ms(), self._limits.deadlines_max)

    return patch.object(Lane, "_passed_deadlines", passed)


def look_up_deadline_not_extended() -> Any:
    """After a take-over a look-up's deadline stays what it was."""
    real = Contacts.taken_over
    return patch.object(Contacts, "taken_over", lambda self, _: real(self, 0))


def deadlines_forgotten_at_take_over() -> Any:
    """Deadlines are armed by records that this owner wrote, not by the state."""

    def taken_over(self: Contacts, now_ms: int) -> None:
        self._taken_over_ms, self._indexed, self._heap = now_ms, {}, []

    return patch.object(Contacts, "taken_over", taken_over)


def _reordering(*order: str) -> Any:
    """Let the three steps of a snapshot (parts, lane, tombstones) be published in another order."""
    real = Snapshots._publish
    held: dict[Snapshots, dict[str, list[Any]]] = {}

    async def publish(self: Snapshots, entries: Any) -> None:
        mine = held.setdefault(self, {})
        entries = list(entries)
        step = "parts" if "parts" not in mine else "lane" if "lane" not in mine else "tombstones"
        mine[step] = entries
        if step == "tombstones":
            for name in order:
                await real(self, mine[name])
            held.pop(self)

    return patch.object(Snapshots, "_publish", publish)


def lane_entry_before_parts() -> Any:
    """``lane@F`` is written before the parts that it counts on."""
    return _reordering("lane", "parts", "tombstones")


def tombstones_before_lane_entry() -> Any:
    """What a snapshot replaces is removed before the snapshot is there."""
    return _reordering("parts", "tombstones", "lane")


def snapshot_of_provisional_state() -> Any:
    """A snapshot is taken of what was decided, before the append is confirmed."""
    real = Lane._append

    async def append(self: Lane, *rest: Any) -> bool:
        if self._snapshots.records >= self._limits.snapshot_records:
            parts: Any = self._state.state.parts if isinstance(self._state, Workspaces) else self._state._parts  # type: ignore[attr-defined]
            self._snapshots.note({key: parts.get(key) for key in parts._before}, 0)
            self._snapshots.begin(self._state, self._known_tail(), self._policies)
        return await real(self, *rest)

    return patch.object(Lane, "_append", append)


def load_newest_parts() -> Any:
    """The loader takes each part's newest entry, also one above F."""
    real = Snapshots._read

    async def read(self: Snapshots) -> dict[str, dict[int, bytes]]:
        entries = await real(self)
        newest = max(entries.get(LANE, {}), default=0)
        for key, versions in entries.items():
            if key != LANE and versions and newest:
                entries[key] = {newest: versions[max(versions)]}
        return entries

    return patch.object(Snapshots, "_read", read)


OUTPUT_OMISSIONS: Final[Sequence[Omission]] = (
    omission("outputs leave after their append", output_before_append, "published"),
    omission("one batch of outputs at a time", publish_pipelined, "outputs"),
    omission("a failed publish is repeated", skip_failed_publish, "mark", "outputs"),
    omission("the mark is the lowest output not confirmed", mark_highest, "mark"),
    omission("a successor publishes from the mark on", no_republish, "mark", "outputs"),
    omission("in log order", backlog_last, "outputs"),
    omission("a clean stop leaves no duplicates", stop_without_mark, "repeats"),
    omission("what was there in time comes before a deadline", no_barrier, "time", **BUSY),
    omission("a look-up has its full length after a take-over", look_up_deadline_not_extended, "time"),
    omission("deadlines are in the state", deadlines_forgotten_at_take_over, "progress"),
    omission("parts before lane@F", lane_entry_before_parts, "snapshot"),
    omission("tombstones after lane@F", tombstones_before_lane_entry, "snapshot"),
    omission("snapshots of confirmed state only", snapshot_of_provisional_state, "snapshot"),
    omission("parts up to F only", load_newest_parts, "restored", "snapshot", start=3, **BUSY),
)

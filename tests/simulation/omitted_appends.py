"""Planted omissions in appending and resuming. See ``omissions.py``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from unittest.mock import patch

from consumers import lane as lane_module
from consumers import restore as restore_module
from consumers.deciding import Aside, Batch, Deciding
from consumers.lane import Lane
from consumers.lane_clock import LaneClock
from consumers.policy_book import LanePolicies
from consumers.publisher import publish_all
from consumers.restore import Tail
from events.chain import AFTER, EXPECTED_OFFSET
from events.log import Appended, FencedError, NewRecord, TopicPartition
from events.records import hash_of
from routing.contacts import Contacts
from routing.inputs import Event
from tests.simulation.broker import LOGS, Broker
from tests.simulation.faulty_log import FaultyLog, FaultyReader
from tests.simulation.omissions import Omission, omission


def append_unconditionally() -> Any:
    """Whatever was expected, the log takes the records, and readers believe them."""
    real = Broker.append

    async def append(
        self: Broker,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,  # noqa: ARG001 - that is the fault
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        return await real(self, place, records, expected=self.end(place), outputs=outputs)

    return patch.multiple(Broker, append=append, exists=lambda *_: True)


def append_again_under_a_new_expected() -> Any:
    """After ``Fenced`` the same records go to the log's new end."""
    real = FaultyLog.append

    async def append(
        self: FaultyLog,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        try:
            return await real(self, place, records, expected=expected, outputs=outputs)
        except FencedError:
            end = self.broker.end(place)
            after = hash_of(self.broker.records(place)[-1].value or b"") if end else ""
            sealed = []
            for offset, record in enumerate(records, start=end):
                headers = {**dict(record.headers), EXPECTED_OFFSET: b"%d" % offset, AFTER: after.encode()}
                sealed.append(record._replace(headers=tuple(headers.items())))
                after = hash_of(record.value or b"")
            return await self._append(place, sealed, end, outputs)

    return patch.object(FaultyLog, "append", append)


def expect_last_offset_plus_one() -> Any:
    """Not the position after reading to the end: offsets may have holes."""
    real = restore_module.fold

    async def fold(log: Any, place: TopicPartition, state: Any, tail: Tail, policies: Any) -> int:
        start = tail.end
        folded = await real(log, place, state, tail, policies)
        tail.end = max(
            [start, *(stored.offset + 1 for stored in log.broker.records(place, start) if stored.offset < tail.end)]
        )
        return folded

    return patch.object(lane_module, "fold", fold)


def keep_provisional_state() -> Any:
    """After ``Fenced`` the state still holds what was decided for nothing."""
    return patch.object(Contacts, "discard", lambda *_: None)


def keep_provisional_policies() -> Any:
    """After ``Fenced`` a policy counts as recorded that is not."""
    return patch.object(LanePolicies, "discard", lambda *_: None)


@contextmanager
def keep_positions() -> Iterator[None]:
    """After ``Fenced`` the inputs go on where this owner was, not where the log says."""
    in_memory: dict[Any, dict[str, int]] = {}
    real_store, real_starting = Lane._store, restore_module.starting_positions

    async def store(self: Lane, batch: Batch, now: Any) -> bool:
        in_memory[self._log] = self._positions
        return await real_store(self, batch, now)

    async def starting(log: Any, *rest: Any) -> dict[TopicPartition, int]:
        places = await real_starting(log, *rest)
        return {place: in_memory.get(log, {}).get(place.topic, offset) for place, offset in places.items()}

    with patch.object(Lane, "_store", store), patch.object(lane_module, "starting_positions", starting):
        yield


@contextmanager
def idle_owner_does_not_follow() -> Iterator[None]:
    """The lane reads its inputs alone, not the end of its own log."""
    real_reader, real_seek = FaultyLog.reader, FaultyReader.seek

    def reader(self: FaultyLog, positions: Mapping[TopicPartition, int]) -> Any:
        return real_reader(self, {place: offset for place, offset in positions.items() if place.topic not in LOGS})

    def seek(self: FaultyReader, place: TopicPartition, offset: int) -> None:
        if place.topic not in LOGS:
            real_seek(self, place, offset)

    with patch.object(FaultyLog, "reader", reader), patch.object(FaultyReader, "seek", seek):
        yield


def time_runs_backwards() -> Any:
    """``now`` is the clock alone, not at least the last record's time."""
    return patch.object(LaneClock, "now_ms", lambda self: self.machine_ms())


def dead_letters_after_append() -> Any:
    """What is set aside is safe only after positions have passed it."""
    real = Lane._store

    async def store(self: Lane, batch: Batch, now: Any) -> bool:
        aside, batch.aside = batch.aside, []
        stored = await real(self, batch, now)
        if aside:
            await publish_all(self._log, aside)
        return stored

    return patch.object(Lane, "_store", store)


@contextmanager
def positions_as_gathered() -> Iterator[None]:
    """The positions in the log are those of the reader, which has gathered more than was decided."""
    real_advance, real_append = Lane._advance, Lane._append
    readers: dict[Lane, Any] = {}

    async def advance(self: Lane, records: Any, reader: Any) -> bool:
        readers[self] = reader
        return await real_advance(self, records, reader)

    async def append(self: Lane, *rest: Any) -> bool:
        for topic in self._positions if self in readers else ():
            self._positions[topic] = readers[self].position(TopicPartition(topic, self._place.partition))
        return await real_append(self, *rest)

    with patch.object(Lane, "_advance", advance), patch.object(Lane, "_append", append):
        yield


def decide_foreign_records() -> Any:
    """A record on a foreign partition is decided where it lies."""

    def admit(self: Deciding, record: Any, now: Any) -> Event | Aside:
        try:
            return self._spec.decoders[record.topic](record)
        except Exception as error:  # noqa: BLE001 - whatever the decoder says, it is set aside
            return self._dead_letter(record, "bad", str(error), now)

    return patch.object(Deciding, "_admit", admit)


APPEND_OMISSIONS: Final[Sequence[Omission]] = (
    omission("append on condition", append_unconditionally, "chain"),
    omission("after Fenced decide again", append_again_under_a_new_expected, "chain", "restored"),
    omission("expected is the position after reading to the end", expect_last_offset_plus_one, "progress"),
    omission("drop the overlay after Fenced", keep_provisional_state, "restored"),
    omission(
        "drop policies that were not recorded after Fenced",
        keep_provisional_policies,
        "restored",
        start=17,
        mixed=True,
        calm=False,
    ),
    omission("seek the inputs to the log's positions after Fenced", keep_positions, "restored", "outcome"),
    omission("an idle owner follows its log", idle_owner_does_not_follow, "live", "progress"),
    omission("time does not run backwards in a log", time_runs_backwards, "chain"),
    omission("dead letters before the append", dead_letters_after_append, "outcome"),
    omission("positions are of what was decided", positions_as_gathered, "outcome", "restored"),
    omission("a foreign record is sent on", decide_foreign_records, "outcome"),
)

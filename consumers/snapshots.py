"""Snapshots of a lane's state, so that a take-over need not fold the whole log.

Only confirmed state is written, so that every snapshot is a fact, whoever writes it. A part's entry has the key
``<part>@<F>``: the part as it is after all records below offset F. ``lane@<F>`` is written once every part that changed
below F has an entry, and what it replaces is removed after that. The loader takes the greatest F and of each part the
greatest entry up to it; whatever does not fit is a reason to fold from the beginning, never one to go on.
An entry that is too large for a record stands in pieces (``snapshot_pieces.py``).

What no snapshot needs (older entries that were not removed, those of an attempt that failed or of a process that died
before ``lane@<F>``) goes with the next snapshot that succeeds. Of a part a writer removes only what is older than an
entry that a confirmed snapshot of his covers: whatever others rely on, the greatest entry up to their F stays true.

Parts that hardly ever change again (``LaneSpec.settled``) stand many together in ``settled-<hash>@<F>``, so that a
million of them are loaded in seconds. Such an entry stays as long as it is the newest of one of its parts: a part of it
that does change gets a later one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec
from msgspec.structs import replace

from consumers.lane_spec import LaneSpec
from consumers.policy_book import LanePolicies
from consumers.publisher import publish_all
from consumers.restore import Tail
from consumers.snapshot_choosing import Chosen, Entries, choose
from consumers.snapshot_pieces import join, records_of
from events.adapter import UNREADABLE
from events.log import Log, LogError, NewRecord, StoredRecord, TopicPartition
from events.records import hash_of
from routing.decider import LaneState

logger = logging.getLogger(__name__)

LANE: Final = "lane"  #: no part has this key: theirs have a slash
SETTLED: Final = "settled-"  #: nor begins one so without a slash
SETTLED_BYTES_MAX: Final = 200_000  #: of the parts in one entry, but for the last of them
CHUNK_RECORDS: Final = 500
CHUNK_BYTES_MAX: Final = 4_000_000  #: or as many, and one record
READ_RECORDS: Final = 2_000


class KeptPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """A policy that the log has recorded below the snapshot."""

    version: str
    text: str
    workspace: str
    offset: int


class LaneSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a lane knows beside its decider's state, at ``end``."""

    log_id: str
    end: int
    after: str  #: hash of the record at ``end`` - 1
    at_ms: int
    positions: dict[str, int]
    mark: int
    policies: list[KeptPolicy]
    parts: int  #: how many there are; the loader must find as many
    cut: dict[str, int] = {}  #: of the parts in pieces the F of the entry: the loader must find that or a later one


class Attempt:
    """One snapshot that is being written: which records, and which entries are in pieces."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.records: list[str] = []
        self.pieces: dict[str, Sequence[str]] = {}

    def take(self, key: str, value: bytes) -> Sequence[tuple[str, bytes]]:
        """The records of an entry, which from now on count as written."""
        found = records_of(key, self.end, value)
        self.records.extend(record for record, _ in found)
        if len(found) > 1:
            self.pieces[key] = [record for record, _ in found]
        return found


class Snapshots:
    """Writes and loads the snapshots of one lane."""

    def __init__(self, log: Log, spec: LaneSpec, partition: int) -> None:
        self._log = log
        self._place = TopicPartition(spec.snapshot_topic, partition)
        self._log_place = TopicPartition(spec.log_topic, partition)
        self._settled = spec.settled
        self._changed: dict[str, msgspec.Struct | None] = {}
        self._written: dict[str, int] = {}  # per key the F of its newest entry
        self._pieces: dict[str, Sequence[str]] = {}  # of those that are in pieces, the keys of these
        self._unused: dict[str, None] = {}  # keys of records that the next snapshot makes superfluous, in their order
        self._uncovered: set[str] = set()  # parts with an entry above the snapshot that was loaded
        self._writing: asyncio.Task[None] | None = None
        self.records = 0  #: folded or appended since the last snapshot began
        self.end = 0  #: F of the newest snapshot that was loaded or written; 0: there is none

    def note(self, changed: Mapping[str, msgspec.Struct | None], records: int) -> None:
        """Remember what was confirmed."""
        self._changed.update(changed)
        self.records += records

    def begin(self, state: LaneState, tail: Tail, policies: LanePolicies) -> None:
        """Write a snapshot of what is confirmed now, in the background; does nothing while one is being written."""
        if self._writing is not None and not self._writing.done():
            return
        self._note_uncovered(state)
        changed, self._changed = self._changed, {}
        self.records = 0
        snapshot = LaneSnapshot(
            log_id=tail.log_id,
            end=tail.end,
            after=tail.after,
            at_ms=tail.at_ms,
            positions=dict(tail.positions),
            mark=tail.mark,
            policies=[
                KeptPolicy(version=version, text=kept.policy.text, workspace=kept.workspace, offset=kept.offset)
                for version, kept in policies.recorded.items()
            ],
            parts=sum(1 for _ in state.parts()),
        )
        self._writing = asyncio.create_task(self._write(state, changed, snapshot))

    async def settle(self) -> None:
        """Wait for the snapshot that is being written; one that fails is only logged, the log has everything."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
            self._writing = None

    def _note_uncovered(self, state: LaneState) -> None:
        """Have parts written again of which somebody began to write a later entry, before that one is removed."""
        if self._uncovered:
            parts = dict(state.parts())
            for key in sorted(self._uncovered):
                self._changed.setdefault(key, parts.get(key))
            self._uncovered = set()

    async def _write(
        self, state: LaneState, changed: Mapping[str, msgspec.Struct | None], snapshot: LaneSnapshot
    ) -> None:
        attempt = Attempt(snapshot.end)
        try:
            await self._publish(self._entries(state, changed, attempt))
            snapshot = replace(snapshot, cut=self._cut(changed, attempt))
            await self._publish(attempt.take(LANE, msgspec.json.encode(snapshot)))
        except LogError:
            logger.exception("%s/%d: a snapshot could not be written; the next one holds it too", *self._place)
            self._changed = {**changed, **self._changed}
            self._unused.update(dict.fromkeys(attempt.records))
            return
        self._now_stands(changed, attempt)
        try:
            await self._publish([(key, None) for key in self._unused])
        except LogError:
            logger.exception("%s/%d: older snapshots could not be removed; the next one tries again", *self._place)
        else:
            self._unused = {}

    def _cut(self, changed: Mapping[str, msgspec.Struct | None], attempt: Attempt) -> dict[str, int]:
        """Of the parts that are in pieces the F of these."""
        cut = {key: self._written[key] for key in self._pieces if key not in changed}
        cut.update(dict.fromkeys(attempt.pieces, attempt.end))
        return {key: end for key, end in cut.items() if "/" in key}

    def _now_stands(self, changed: Mapping[str, msgspec.Struct | None], attempt: Attempt) -> None:
        """The snapshot stands: what it replaces is of no use."""
        for key in (*changed, LANE):
            if key in self._written:
                self._unused.update(dict.fromkeys(self._records_of(key, self._written.pop(key))))
        for key, part in changed.items():
            if part is not None and not self._is_settled(part):
                self._written[key] = attempt.end
        self._written[LANE] = self.end = attempt.end
        self._pieces.update((key, records) for key, records in attempt.pieces.items() if not _is_together(key))
        for record in attempt.records:  # an earlier attempt may have had the same
            self._unused.pop(record, None)

    def _records_of(self, key: str, end: int) -> Sequence[str]:
        """The keys of an entry's records."""
        return self._pieces.pop(key, None) or [f"{key}@{end}"]

    def _is_settled(self, part: msgspec.Struct) -> bool:
        return self._settled is not None and self._settled.holds(part)

    def _entries(
        self, state: LaneState, changed: Mapping[str, msgspec.Struct | None], attempt: Attempt
    ) -> Iterator[tuple[str, bytes]]:
        """The records of the parts that changed."""
        settled: list[bytes] = []
        size_bytes = 0
        for key, part in changed.items():
            if part is None:
                continue
            if not self._is_settled(part):
                yield from attempt.take(key, state.dump(part))
                continue
            settled.append(msgspec.json.encode(key) + b":" + state.dump(part))
            size_bytes += len(settled[-1])
            if size_bytes >= SETTLED_BYTES_MAX:
                yield from attempt.take(*_together(settled))
                settled, size_bytes = [], 0
        if settled:
            yield from attempt.take(*_together(settled))

    async def _publish(self, records: Iterable[tuple[str, bytes | None]]) -> None:
        chunk: list[NewRecord] = []
        size_bytes = 0
        for key, value in records:
            chunk.append(NewRecord(*self._place, key.encode(), value))
            size_bytes += len(value or b"")
            if len(chunk) == CHUNK_RECORDS or size_bytes >= CHUNK_BYTES_MAX:
                await publish_all(self._log, chunk)
                chunk, size_bytes = [], 0
        if chunk:
            await publish_all(self._log, chunk)

    # --- loading ---

    async def load(self, state: LaneState, tail: Tail, policies: LanePolicies) -> bool:
        """Put the newest trustworthy snapshot into an empty state; False if there is none, and nothing was changed."""
        entries = await self._read()
        pieces = join(entries)
        self._unused.update(dict.fromkeys(pieces.unused))
        snapshot = _newest(entries.get(LANE, {}), tail.log_id)
        chosen = None if snapshot is None else await self._chosen(entries, snapshot)
        if snapshot is None or chosen is None:
            self._note_unused(entries, pieces.records, ())
            return False
        if self._settled is not None:
            self._settled.load(state, chosen.settled)
        state.load((key, value) for key, (_, value) in chosen.own.items())
        self._written = {key: end for key, (end, _) in chosen.own.items()} | {LANE: snapshot.end}
        self._pieces = {key: records for (key, end), records in pieces.records.items() if self._written.get(key) == end}
        self._uncovered = set(_parts_above(entries, snapshot.end))
        self._note_unused(entries, pieces.records, chosen.entries() | {(LANE, snapshot.end)})
        self.end = snapshot.end
        for kept in snapshot.policies:
            policies.record(kept.version, kept.text, kept.workspace, kept.offset)
        tail.end, tail.after, tail.at_ms = snapshot.end, snapshot.after, snapshot.at_ms
        tail.positions, tail.mark = dict(snapshot.positions), snapshot.mark
        return True

    def _note_unused(
        self, entries: Entries, pieces: Mapping[tuple[str, int], Sequence[str]], used: Collection[tuple[str, int]]
    ) -> None:
        """Remember the records of all entries but the used ones."""
        for key, versions in entries.items():
            for end in versions:
                if (key, end) not in used:
                    self._unused.update(dict.fromkeys(pieces.get((key, end)) or [f"{key}@{end}"]))

    async def _chosen(self, entries: Entries, snapshot: LaneSnapshot) -> Chosen | None:
        """What the snapshot is made of; None if it cannot be trusted."""
        if not await self._fits(snapshot):
            return None
        chosen = choose(entries, snapshot.end, self._settled, [key for key in entries if _is_together(key)])
        older = sum(1 for part, end in snapshot.cut.items() if chosen.end_of(part) < end)
        if len(chosen) == snapshot.parts and not older:
            return chosen
        logger.warning(
            "%s/%d: snapshot at %d has %d of %d parts, %d of them too old: folding the whole log",
            *self._place, snapshot.end, len(chosen), snapshot.parts, older,
        )  # fmt: skip
        return None

    async def _read(self) -> dict[str, dict[int, bytes]]:
        """Every entry that is there: per key and F; none if one cannot be read, as it may be the newest of its part."""
        entries: dict[str, dict[int, bytes]] = {}
        is_whole = True
        position = await self._log.start_offset(self._place)
        while True:
            fetched = await self._log.read(self._place, position, records_max=READ_RECORDS)
            for record in fetched.records:
                if record.headers and record.headers[0][0] == UNREADABLE:
                    logger.warning("%s/%d: %s: folding the whole log", *self._place, record.headers[0][1].decode())
                    is_whole = False
                else:
                    _take(record, entries)
            if fetched.offset_next == position:
                break
            position = fetched.offset_next
        if is_whole:
            return entries
        self._note_unused(entries, {}, ())
        return {}

    async def _fits(self, snapshot: LaneSnapshot) -> bool:
        """Whether the log has the record that the snapshot was taken after."""
        found: Sequence[StoredRecord] = ()
        if snapshot.end <= await self._log.end_offset(self._log_place):
            found = (await self._log.read(self._log_place, snapshot.end - 1, records_max=1)).records
        if found and found[0].offset == snapshot.end - 1 and hash_of(found[0].value or b"") == snapshot.after:
            return True
        logger.warning("%s/%d: snapshot at %d does not fit the log: folding it whole", *self._place, snapshot.end)
        return False


def _together(settled: Sequence[bytes]) -> tuple[str, bytes]:
    """One entry of many parts; named by what it holds, so that two writers at the same F keep each other's."""
    value = b"{" + b",".join(settled) + b"}"
    return f"{SETTLED}{sha256(value).hexdigest()[:32]}", value


def _is_together(key: str) -> bool:
    return key.startswith(SETTLED) and "/" not in key


def parts_of(key: str, value: bytes) -> Mapping[str, bytes]:
    """What an entry holds, by key, as bytes: one part, many, or ``lane``."""
    if not _is_together(key):
        return {key: value}
    return {part: bytes(raw) for part, raw in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items()}


def _parts_above(entries: Entries, end: int) -> Iterator[str]:
    """The parts with entries that no snapshot up to ``end`` can count on."""
    for key, versions in entries.items():
        for value in (value for at, value in versions.items() if at > end):
            yield from (part for part in parts_of(key, value) if "/" in part)


def _take(record: StoredRecord, entries: dict[str, dict[int, bytes]]) -> None:
    key, _, end = (record.key or b"").decode().rpartition("@")
    versions = entries.setdefault(key, {})
    if record.value is None:
        versions.pop(int(end), None)
    else:
        versions[int(end)] = record.value


def _newest(versions: Mapping[int, bytes], log_id: str) -> LaneSnapshot | None:
    """The snapshot with the greatest F of this log."""
    for end in sorted(versions, reverse=True):
        snapshot = msgspec.json.decode(versions[end], type=LaneSnapshot)
        if snapshot.log_id == log_id:
            return snapshot
    return None

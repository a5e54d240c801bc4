"""Snapshots of a lane's state, so that a take-over need not fold the whole log.

Only confirmed state is written, so that every snapshot is a fact, whoever writes it. A part's entry has the key
``<part>@<F>``: the part as it is after all records below offset F. ``lane@<F>`` is written once every part that changed
below F has an entry, and what it replaces is removed after that. The loader takes the greatest F and of each part the
greatest entry up to it; whatever does not fit is a reason to fold from the beginning, never one to go on.

Parts that hardly ever change again (``LaneSpec.settled``) stand many together in ``settled-<hash>@<F>``, so that a
million of them are loaded in seconds. Such an entry stays for ever: a part of it that does change gets a later one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from consumers.lane_spec import LaneSpec
from consumers.policy_book import LanePolicies
from consumers.publisher import publish_all
from consumers.restore import Tail
from events.adapter import UNREADABLE
from events.log import Log, LogError, NewRecord, StoredRecord, TopicPartition
from events.records import hash_of
from routing.decider import LaneState

logger = logging.getLogger(__name__)

LANE: Final = "lane"  #: no part has this key: theirs have a slash
SETTLED: Final = "settled-"  #: nor begins one so without a slash
SETTLED_BYTES_MAX: Final = 200_000  #: of the parts in one entry, but for the last of them
CHUNK_RECORDS: Final = 500
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


class Snapshots:
    """Writes and loads the snapshots of one lane."""

    def __init__(self, log: Log, spec: LaneSpec, partition: int) -> None:
        self._log = log
        self._place = TopicPartition(spec.snapshot_topic, partition)
        self._log_place = TopicPartition(spec.log_topic, partition)
        self._settled = spec.settled
        self._changed: dict[str, msgspec.Struct | None] = {}
        self._written: dict[str, int] = {}  # per key the F of its newest entry
        self._writing: asyncio.Task[None] | None = None
        self.records = 0  #: folded or appended since the last snapshot began

    def note(self, changed: Mapping[str, msgspec.Struct | None], records: int) -> None:
        """Remember what was confirmed."""
        self._changed.update(changed)
        self.records += records

    def begin(self, state: LaneState, tail: Tail, policies: LanePolicies) -> None:
        """Write a snapshot of what is confirmed now, in the background; does nothing while one is being written."""
        if self._writing is not None and not self._writing.done():
            return
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

    async def _write(
        self, state: LaneState, changed: Mapping[str, msgspec.Struct | None], snapshot: LaneSnapshot
    ) -> None:
        end = snapshot.end
        try:
            await self._publish(self._entries(state, changed, end))
            await self._publish([(f"{LANE}@{end}", msgspec.json.encode(snapshot))])
            replaced = [(f"{key}@{self._written[key]}", None) for key in (*changed, LANE) if key in self._written]
            await self._publish(replaced)
        except LogError:
            logger.exception("%s/%d: a snapshot could not be written; the next one holds it too", *self._place)
            self._changed = {**changed, **self._changed}
            return
        for key, part in changed.items():
            if part is None or self._is_settled(part):
                self._written.pop(key, None)
            else:
                self._written[key] = end
        self._written[LANE] = end

    def _is_settled(self, part: msgspec.Struct) -> bool:
        return self._settled is not None and self._settled.holds(part)

    def _entries(
        self, state: LaneState, changed: Mapping[str, msgspec.Struct | None], end: int
    ) -> Iterator[tuple[str, bytes]]:
        """What is written of the parts that changed."""
        settled: list[bytes] = []
        size_bytes = 0
        for key, part in changed.items():
            if part is None:
                continue
            if not self._is_settled(part):
                yield f"{key}@{end}", state.dump(part)
                continue
            settled.append(msgspec.json.encode(key) + b":" + state.dump(part))
            size_bytes += len(settled[-1])
            if size_bytes >= SETTLED_BYTES_MAX:
                yield _together(settled, end)
                settled, size_bytes = [], 0
        if settled:
            yield _together(settled, end)

    async def _publish(self, entries: Iterable[tuple[str, bytes | None]]) -> None:
        chunk: list[NewRecord] = []
        for key, value in entries:
            chunk.append(NewRecord(*self._place, key.encode(), value))
            if len(chunk) == CHUNK_RECORDS:
                await publish_all(self._log, chunk)
                chunk = []
        if chunk:
            await publish_all(self._log, chunk)

    # --- loading ---

    async def load(self, state: LaneState, tail: Tail, policies: LanePolicies) -> bool:
        """Put the newest trustworthy snapshot into an empty state; False if there is none, and nothing was changed."""
        entries = await self._read()
        snapshot = _newest(entries.get(LANE, {}), tail.log_id)
        if snapshot is None or not await self._fits(snapshot):
            return False
        chosen = _chosen(entries, snapshot.end)
        settled = self._read_settled(entries, chosen, snapshot.end)
        if len(chosen) + len(settled) != snapshot.parts:
            logger.warning(
                "%s/%d: snapshot at %d has %d of %d parts: folding the whole log",
                *self._place, snapshot.end, len(chosen) + len(settled), snapshot.parts,
            )  # fmt: skip
            return False
        if self._settled is not None:
            self._settled.load(state, settled)
        state.load((key, value) for key, (_, value) in chosen.items())
        self._written = {key: end for key, (end, _) in chosen.items()} | {LANE: snapshot.end}
        for kept in snapshot.policies:
            policies.record(kept.version, kept.text, kept.workspace, kept.offset)
        tail.end, tail.after, tail.at_ms = snapshot.end, snapshot.after, snapshot.at_ms
        tail.positions, tail.mark = dict(snapshot.positions), snapshot.mark
        return True

    def _read_settled(
        self, entries: Mapping[str, Mapping[int, bytes]], chosen: dict[str, tuple[int, bytes]], end: int
    ) -> dict[str, msgspec.Struct]:
        """The settled parts, by key; takes those out of ``chosen`` whose settled form is the later one."""
        settled: dict[str, msgspec.Struct] = {}
        if self._settled is None:
            return settled
        together = sorted(
            (at, value)
            for key, versions in entries.items()
            if _is_together(key)
            for at, value in versions.items()
            if at <= end
        )
        found = [(at, self._settled.read(value)) for at, value in together]
        for _, parts in found:
            settled.update(parts)
        for key in settled.keys() & chosen.keys():
            if chosen[key][0] > max(at for at, parts in found if key in parts):
                del settled[key]
            else:
                del chosen[key]
        return settled

    async def _read(self) -> dict[str, dict[int, bytes]]:
        """Every entry that is there: per key and F; none if one cannot be read, as it may be the newest of its part."""
        entries: dict[str, dict[int, bytes]] = {}
        position = await self._log.start_offset(self._place)
        while True:
            fetched = await self._log.read(self._place, position, records_max=READ_RECORDS)
            for record in fetched.records:
                if record.headers and record.headers[0][0] == UNREADABLE:
                    logger.warning("%s/%d: %s: folding the whole log", *self._place, record.headers[0][1].decode())
                    return {}
                _take(record, entries)
            if fetched.offset_next == position:
                return entries
            position = fetched.offset_next

    async def _fits(self, snapshot: LaneSnapshot) -> bool:
        """Whether the log has the record that the snapshot was taken after."""
        found: Sequence[StoredRecord] = ()
        if snapshot.end <= await self._log.end_offset(self._log_place):
            found = (await self._log.read(self._log_place, snapshot.end - 1, records_max=1)).records
        if found and found[0].offset == snapshot.end - 1 and hash_of(found[0].value or b"") == snapshot.after:
            return True
        logger.warning("%s/%d: snapshot at %d does not fit the log: folding it whole", *self._place, snapshot.end)
        return False


def _together(settled: Sequence[bytes], end: int) -> tuple[str, bytes]:
    """One entry of many parts; named by what it holds, so that two writers at the same F keep each other's."""
    value = b"{" + b",".join(settled) + b"}"
    return f"{SETTLED}{sha256(value).hexdigest()[:32]}@{end}", value


def _is_together(key: str) -> bool:
    return key.startswith(SETTLED) and "/" not in key


def parts_of(key: str, value: bytes) -> Mapping[str, bytes]:
    """What an entry holds, by key, as bytes: one part, many, or ``lane``."""
    if not _is_together(key):
        return {key: value}
    return {part: bytes(raw) for part, raw in msgspec.json.decode(value, type=dict[str, msgspec.Raw]).items()}


def _chosen(entries: Mapping[str, Mapping[int, bytes]], end: int) -> dict[str, tuple[int, bytes]]:
    """Of each part that has an entry of its own the greatest up to ``end``."""
    chosen: dict[str, tuple[int, bytes]] = {}
    for key, versions in entries.items():
        fitting = [at for at in versions if at <= end]
        if fitting and "/" in key:
            chosen[key] = (max(fitting), versions[max(fitting)])
    return chosen


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

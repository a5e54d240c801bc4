"""Brings a workspace's state to the present, or to a time, as a lane does, but read-only.

Now: from the newest snapshot that can be trusted; at a time: from the log's beginning, since snapshots are of later.
"""

from __future__ import annotations

from typing import Final

from consumers.audit.report import OnProgress
from consumers.desk.estimates import pace_of
from consumers.desk.picture import Picture, known_agents, picture
from consumers.desk.reading import (
    DamagedError,
    Extent,
    FutureError,
    NothingToTellError,
    at_of,
    extent_of,
    offset_after,
    unknown,
)
from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail, ensure_genesis, fold
from consumers.snapshots import Snapshots
from consumers.specs import ASSIGNER
from events.chain import ChainError
from events.log import Log
from events.records import Moment, RecordError
from events.times import format_time
from routing.workspaces import Workspaces

STEP_RECORDS: Final = 10_000  #: folded between two words on how far it is


async def standing(
    log: Log, workspace: str, *, at_ms: int | None, now_ms: int, on_progress: OnProgress | None = None
) -> Picture:
    """The workspace now, or as the records up to ``at_ms`` have it.

    Raises ``FutureError``, ``NothingToTellError``, ``DamagedError``, ``LogError``.
    """
    extent = await extent_of(log, workspace)
    as_of_ms = max(now_ms, extent.last_ms) if at_ms is None else at_ms
    if as_of_ms > max(now_ms, extent.last_ms):
        raise FutureError(f"{format_time(as_of_ms)} is in the future: give a time up to {format_time(now_ms)}")
    if as_of_ms < extent.first_ms:
        raise NothingToTellError(
            f"the log's first record is of {format_time(extent.first_ms)}: nothing is known of {format_time(as_of_ms)}"
        )
    end = extent.end if at_ms is None else await offset_after(log, extent, at_ms)
    tail = Tail(log_id="")
    state = Workspaces()
    try:
        await _restore(log, extent, state, tail, end, with_snapshots=at_ms is None, on_progress=on_progress)
    except (ChainError, RecordError) as error:
        raise DamagedError(str(error)) from None
    if workspace not in state.state.desks:
        raise unknown(workspace, set(state.state.desks), extent, at_ms)
    pace = await pace_of(log, extent, workspace, end, as_of_ms)
    assigned_ms = await _assigned_ms(log, extent, state, workspace)
    return picture(
        state.state, workspace, as_of_ms=as_of_ms, last_ms=tail.at_ms, pace=pace, assigned_ms=assigned_ms
    )  # fmt: skip


async def _restore(
    log: Log,
    extent: Extent,
    state: Workspaces,
    tail: Tail,
    end: int,
    *,
    with_snapshots: bool,
    on_progress: OnProgress | None,
) -> None:
    place = extent.place
    policies = LanePolicies(PolicyBook({}))
    tail.log_id = await ensure_genesis(log, place, Moment.at(extent.first_ms))  # it is there: nothing is written
    if with_snapshots:
        await Snapshots(log, ASSIGNER, place.partition).load(state, tail, policies)
    while tail.end < end:
        folded = await fold(log, place, state, tail, policies, until=min(tail.end + STEP_RECORDS, end))
        state.confirm()
        if not folded:
            return
        if on_progress is not None:
            on_progress(tail.end, end)


async def _assigned_ms(log: Log, extent: Extent, state: Workspaces, workspace: str) -> dict[int, int]:
    """When the agents were last given or offered something, by the offset of the record that says so."""
    desk = state.state.desk(workspace)
    offsets = {desk.agent_part(agent).assigned_last for agent in known_agents(desk)}
    times: dict[int, int] = {}
    for offset in sorted(offset for offset in offsets if offset >= 0):
        found = (await log.read(extent.place, offset, records_max=1)).records
        if found and found[0].offset == offset:
            times[offset] = at_of(found[0])
    return times

"""All oracles in the order in which they judge a run, and the two that ask the lane's own code to read what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from consumers.policy_book import LanePolicies, PolicyBook
from consumers.restore import Tail, fold
from consumers.snapshots import LANE, Snapshots
from events.log import TopicPartition
from tests.simulation.kept import Kept
from tests.simulation.observer import SPECS, Fold, ViolationError, differences
from tests.simulation.oracle_outputs import check_no_repeats, check_outputs
from tests.simulation.oracle_owners import check_owners
from tests.simulation.oracle_replay import check_replay
from tests.simulation.oracle_time import check_time
from tests.simulation.oracles_log import check_chain, check_effects, check_sequence, check_transitions
from tests.simulation.virtual_loop import run_virtual


def check_live(kept: Kept) -> None:
    """Who is left knows what the log says, as far as he has read it."""
    for process in kept.world.survivors:
        lane = process.lane
        tail = lane._known_tail()
        live, told = dict(lane._state.parts()), dict(kept.observer.fold(process.place, tail.end).state.parts())
        if live != told:
            raise ViolationError("live", f"{process.name} up to {tail.end}: {differences(live, told)}")


def check_snapshot_facts(kept: Kept) -> None:
    """Every entry that was ever written says what the fold up to its offset says."""
    for log in kept.logs:
        entries = sorted(
            entry[1:] for entry in kept.observer.snapshot_entries if entry[0] == log.place and entry[1] != LANE
        )
        known = Fold(log.spec.new_state())
        lines = iter(log.lines)
        for key, end, value in sorted(entries, key=lambda entry: entry[1]):
            while known.end < end:
                known.add(next(lines).stored)
            if known.state.dump(dict(known.state.parts())[key]) != value:
                raise ViolationError("snapshot", f"{log.place}: {key}@{end} is not what the log says there")


def check_restore(kept: Kept) -> None:
    """A fold from the newest snapshot equals the fold from the beginning."""
    for log in kept.logs:
        run_virtual(_restore(kept, log.place))


async def _restore(kept: Kept, place: TopicPartition) -> None:
    spec = SPECS[place.topic]
    state, policies = spec.new_state(), LanePolicies(PolicyBook({}))
    whole = kept.observer.fold(place, kept.broker.end(place))
    log_id = kept.broker.records(place)[0].headers[1][1].decode()
    tail = Tail(log_id=log_id)
    loaded = await Snapshots(kept.world.reading(), spec, place.partition).load(state, tail, policies)
    there = kept.broker.records(TopicPartition(spec.snapshot_topic, place.partition))
    if loaded != any((record.key or b"").startswith(b"lane@") and record.value is not None for record in there):
        raise ViolationError("snapshot", f"{place}: there is a snapshot and it cannot be used")
    await fold(kept.world.reading(), place, state, tail, policies)
    for what, one, other in (
        ("state", dict(state.parts()), dict(whole.state.parts())),
        ("positions", tail.positions, whole.positions),
        ("mark", tail.mark, whole.mark),
        ("policies", {version: kept.offset for version, kept in policies.recorded.items()}, whole.policies),
    ):
        if one != other:
            raise ViolationError("snapshot", f"{place} from {tail.end}: {what}: {differences(one, other)}")


Oracle: TypeAlias = Callable[[Kept], None]
PREFIX_ORACLES: Final[tuple[Oracle, ...]] = (
    check_chain,
    check_sequence,
    check_transitions,
    check_effects,
    check_time,
)
ORACLES: Final[tuple[Oracle, ...]] = (
    *PREFIX_ORACLES,
    check_owners,
    check_replay,
    check_outputs,
    check_no_repeats,
    check_live,
    check_snapshot_facts,
    check_restore,
)

"""What makes a lane the router's or the assigner's: topics, decoders, decider, outputs. And what bounds a lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from events.log import NewRecord, StoredRecord
from events.outputs import Origin
from routing.decider import LaneState, LogRecord
from routing.inputs import Event
from routing.policy import Policy


class SettledParts(NamedTuple):
    """Parts of a state that hardly ever change again. Snapshots keep many of them in one entry, as a JSON object."""

    holds: Callable[[Any], bool]  #: whether a part is one of them
    read: Callable[[bytes], Mapping[str, Any]]  #: parts by key, of such an object
    load: Callable[[Any, Mapping[str, Any]], None]  #: puts them into an empty state, before all others


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneSpec:
    """One kind of lane."""

    role: str
    log_topic: str
    snapshot_topic: str
    decoders: Mapping[str, Callable[[StoredRecord], Event]]  #: per input topic
    public_inputs: frozenset[str]  #: where a record on a foreign partition is sent on instead of refused
    new_state: Callable[[], LaneState]
    outputs: Callable[[LogRecord, Origin], Sequence[NewRecord]]
    home: Callable[[Event], str]  #: the key whose partition an event belongs on
    decides_ahead: bool  #: whether an input's decision depends on nothing but its own contact's records
    records_policies: bool  #: whether the decider reads policies, so that the log has to keep their texts
    configure: Callable[[str, Policy], Event] | None = None  #: an input that every take-over begins with
    settled: SettledParts | None = None  #: None: every part has an entry of its own in snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneLimits:
    """What bounds a lane."""

    inputs_max: int = 500  #: of one batch
    deadlines_max: int = 500  #: of one batch
    follow_ups_max: int = 1_000  #: records of one input; a decider that goes on for longer is at fault
    append_bytes_soft: int = 700_000  #: a batch closes when it has as many
    append_bytes_max: int = 900_000  #: an input whose records alone have more goes to the dead letters
    backlog_max: int = 5_000  #: outputs not yet confirmed, above which the lane stops deciding
    positions_inputs: int = 10_000  #: inputs without a record, after which the positions are recorded
    positions_interval_ms: int = 600_000
    snapshot_records: int = 10_000  #: between snapshots: so many are folded at most at a take-over
    wait_max_s: float = 60.0  #: look at the clock at least as often: it may be set
    clock_warn_ms: int = 5_000
    clock_stop_ms: int = 60_000

"""Times what is too short to be found in the lanes' counts: appends and look-ups, each once per call, never per record.

``WatchedLog`` and ``WatchedLookUps`` stand before a log and a CRM client, and change nothing of what these do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar, cast, get_args

from msgspec import Struct
from msgspec.json import Decoder
from prometheus_client import CollectorRegistry, Histogram

from consumers.telemetry.views import ATTEMPTS
from events.cloudevents import Reason
from events.log import Appended, Log, NewRecord, TopicPartition
from events.topics import AGENT_EVENTS, ASSIGNMENT_REQUESTS, CONVERSATION_EVENTS, CRM_ANSWERS, DEAD_LETTERS

APPEND_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
LOOK_UP_BUCKETS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OTHER: Final = "other"  #: a reason or a topic that is none of those below
REASONS: Final = get_args(Reason)
#: The topics whose records a role can set aside.
INPUTS_OF: Final = {
    "router": (CONVERSATION_EVENTS, CRM_ANSWERS),
    "assigner": (AGENT_EVENTS, ASSIGNMENT_REQUESTS),
}
#: What a lane publishes besides outputs: dead letters, and inputs on their way to the partition that they belong on.
SET_ASIDE_TOPICS: Final = frozenset({DEAD_LETTERS, CONVERSATION_EVENTS, AGENT_EVENTS})

AskT_contra = TypeVar("AskT_contra", contravariant=True)
PolicyT_contra = TypeVar("PolicyT_contra", contravariant=True)
OutcomeT_co = TypeVar("OutcomeT_co", covariant=True)


class DeadLetters(NamedTuple):
    """What dead letters are counted by. Reasons and topics are few, whatever a record says."""

    role: str
    topic: str
    reason: str


class _Letter(Struct):
    reason: str = OTHER
    topic: str = OTHER


class _Event(Struct):
    data: _Letter


_read_letter: Final = Decoder(_Event).decode


class Timings:
    """The histograms, and what is seen on the way."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.append_s = Histogram(
            "vip_router_append_seconds",
            "Time of one conditional append, whatever came of it.",
            ["role"],
            registry=registry,
            buckets=APPEND_BUCKETS_S,
        )
        self.look_up_s = Histogram(
            "vip_router_crm_look_up_seconds",
            "Time of one CRM look-up, all attempts and waits included.",
            registry=registry,
            buckets=LOOK_UP_BUCKETS_S,
        )
        self.apart_ms: dict[TopicPartition, int] = {}  #: this clock minus the log's, at the last append
        self.dead_letters: Counter[DeadLetters] = Counter()
        self.rerouted: Counter[str] = Counter()  #: by role


class WatchedLog:
    """A log as one role uses it. Everything but ``append`` and ``publish`` is the log's own."""

    def __init__(self, log: Log, role: str, timings: Timings, clock: Callable[[], int]) -> None:
        self._log = log
        self._role = role
        self._timings = timings
        self._clock = clock
        self._append_s = timings.append_s.labels(role=role)
        timings.rerouted.setdefault(role, 0)  # from the start: who watches sees the first one as a rise from 0
        for topic in INPUTS_OF.get(role, ()):
            for reason in REASONS:
                timings.dead_letters.setdefault(DeadLetters(role, topic, reason), 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(
        self,
        place: TopicPartition,
        records: Sequence[NewRecord],
        *,
        expected: int,
        outputs: Sequence[NewRecord] = (),
    ) -> Appended:
        """See ``Log.append``."""
        with self._append_s.time():
            done = await self._log.append(place, records, expected=expected, outputs=outputs)
        self._timings.apart_ms[place] = self._clock() - done.time_ms
        return done

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """See ``Log.publish``."""
        await self._log.publish(records)
        if records and records[0].topic in SET_ASIDE_TOPICS:  # outputs are never published together with these
            for record in records:
                if record.topic == DEAD_LETTERS:
                    self._timings.dead_letters[_counted_as(self._role, record)] += 1
                else:
                    self._timings.rerouted[self._role] += 1


def _counted_as(role: str, record: NewRecord) -> DeadLetters:
    letter = _read_letter(record.value or b"").data
    topic = letter.topic if letter.topic in INPUTS_OF.get(role, ()) else OTHER
    return DeadLetters(role, topic, letter.reason if letter.reason in REASONS else OTHER)


def watched_log(log: Log, role: str, timings: Timings, clock: Callable[[], int]) -> Log:
    """``log``, with the appends of ``role`` timed. ``clock`` gives Unix milliseconds."""
    return cast("Log", WatchedLog(log, role, timings, clock))


class LooksUp(Protocol[AskT_contra, PolicyT_contra, OutcomeT_co]):
    """A CRM client."""

    async def look_up(self, ask: AskT_contra, policy: PolicyT_contra) -> OutcomeT_co:
        """One look-up, start to end."""


class WatchedLookUps(Generic[AskT_contra, PolicyT_contra, OutcomeT_co]):
    """A CRM client whose look-ups are counted and timed; ``LookUpFigures`` of what went through it."""

    def __init__(self, client: LooksUp[AskT_contra, PolicyT_contra, OutcomeT_co], timings: Timings) -> None:
        self._client = client
        self._timings = timings
        self.counts: Counter[str] = Counter()
        self.in_flight = 0

    async def look_up(self, ask: AskT_contra, policy: PolicyT_contra) -> OutcomeT_co:
        """See ``CrmClient.look_up``; one that was cancelled counts as such, its time does not."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self.in_flight += 1
        outcome_name = "cancelled"
        try:
            outcome = await self._client.look_up(ask, policy)
            outcome_name = getattr(outcome, "reason", "answered")
            self.counts[ATTEMPTS] += getattr(outcome, "attempts", 0)
            self._timings.look_up_s.observe(loop.time() - began_s)
            return outcome
        finally:
            self.in_flight -= 1
            self.counts[outcome_name] += 1

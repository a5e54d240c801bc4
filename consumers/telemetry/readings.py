"""What has to be asked of the log for telemetry: whether it answers, and how far behind its ends the roles are.

Asked only when somebody asks us, at most about once a second however many ask, and never for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

from consumers.telemetry.views import Followed, LaneView, Watched
from events.log import Log, LogError, TopicPartition
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG

ANSWER_TIMEOUT_S: Final = 0.8  #: below a probe's usual second
LAGS_TIMEOUT_S: Final = 3.0
LOG_OF: Final = {"router": ROUTING_LOG, "crm": ROUTING_LOG, "assigner": ASSIGNMENTS_LOG}  #: whose partitions it has
AGE_MAX_S: Final = 1.0  #: a reading is good for so long

ResultT = TypeVar("ResultT")

logger = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What the log said."""

    log_answers: bool
    lags: Mapping[tuple[str, TopicPartition], int]  #: records not worked on yet, where it said so in time
    partitions: Mapping[str, int] = {}  #: how many each role has, whoever works on them
    why_not: str | None = None  #: why it does not answer, where it said so


@runtime_checkable
class MayBeHeldUp(Protocol):
    """A log that answers questions also while writes have to wait."""

    def held_up(self) -> str | None:
        """Why they have been waiting for a while; None: they have not."""


class Lately(Generic[ResultT]):
    """The result of a call that is repeated when it is older than ``age_max_s``; all who ask share one call."""

    def __init__(self, call: Callable[[], Awaitable[ResultT]], *, age_max_s: float) -> None:
        self._call = call
        self._age_max_s = age_max_s
        self._lock = asyncio.Lock()
        self._known: tuple[float, ResultT] | None = None

    async def get(self) -> ResultT:
        """The result."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if self._known is None or loop.time() - self._known[0] > self._age_max_s:
                result = await self._call()
                self._known = loop.time(), result
            return self._known[1]


async def read_answer(log: Log, *, timeout_s: float = ANSWER_TIMEOUT_S) -> Reading:
    """Whether the log answers one small question in time, and can be written as far as it knows."""
    try:
        async with asyncio.timeout(timeout_s):
            await log.end_offset(TopicPartition(ROUTING_LOG, 0))
    except LogError as error:
        return Reading(log_answers=False, lags={}, why_not=str(error))
    except TimeoutError:
        return Reading(log_answers=False, lags={})
    why_not = log.held_up() if isinstance(log, MayBeHeldUp) else None
    return Reading(log_answers=why_not is None, lags={}, why_not=why_not)


async def read_lags(watched: Watched, *, timeout_s: float = LAGS_TIMEOUT_S) -> Reading:
    """The lags of all that this process works at, as many as can be had in time."""
    lags: dict[tuple[str, TopicPartition], int] = {}
    partitions: dict[str, int] = {}
    try:
        async with asyncio.timeout(timeout_s):
            for role in watched.roles:
                partitions[role.name] = await watched.log.partition_count(LOG_OF[role.name])
                if role.is_owned:
                    for lane in role.lanes:
                        await _lane_lags(watched.log, role.name, lane, lags)
            for followed in watched.followed:
                if any(role.name == followed.role and role.is_owned for role in watched.roles):
                    await _followed_lags(watched.log, followed, lags)
    except (LogError, TimeoutError) as error:
        logger.info("the log does not say how far it reaches: %s", type(error).__name__)
        return Reading(log_answers=False, lags=lags, partitions=partitions)
    return (await read_answer(watched.log))._replace(lags=lags, partitions=partitions)


async def _lane_lags(log: Log, role: str, lane: LaneView, lags: dict[tuple[str, TopicPartition], int]) -> None:
    figures = lane.figures()
    for topic in figures.positions:
        place = TopicPartition(topic, figures.partition)
        end = await log.end_offset(place)
        position = lane.figures().positions.get(topic, end)  # after the end was read: it may have moved meanwhile
        lags[role, place] = max(end - position, 0)


async def _followed_lags(log: Log, followed: Followed, lags: dict[tuple[str, TopicPartition], int]) -> None:
    places = followed.places()
    committed = await log.committed(followed.group, places)
    for place in places:
        position = committed.get(place)
        if position is None:
            position = await log.start_offset(place)
        lags[followed.role, place] = max(await log.end_offset(place) - position, 0)

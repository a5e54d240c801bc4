"""One client of the brokers: who leads a partition, what is asked of whom, and patience while they are away.

It asks what aiokafka's consumer does not give out: offsets at once beside a fetch that waits, and fetches that are
ours to decode. What is asked is ``events/kafka/requests.py``'s business, writing ``events/kafka/writer.py``'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar

from aiokafka import errors
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.structs import TopicPartition as KafkaPartition

from events.kafka.quiet import quieten
from events.kafka.reach import NotLetInError, ensure_reachable
from events.kafka.settings import KafkaSettings
from events.kafka.topics import MEND_UNEQUAL, WHY_EQUAL
from events.log import LogError, LogUnavailableError, TopicPartition, UnknownTopicError
from events.topics import TOPICS

logger = logging.getLogger(__name__)

PAUSE_FIRST_S: Final = 0.05
PAUSE_MAX_S: Final = 2.0
WARN_INTERVAL_S: Final = 30.0
DIAGNOSE_AFTER_S: Final = 5.0  #: without an answer; then it is looked whether we are still let in
GONE_AFTER_S: Final = 5.0  #: a topic that was there is missing for so long: it was deleted
FIRST_SLOT: Final = 2  #: below are aiokafka's own groups of connections
UNKNOWN_TOPIC: Final = 3

ResultT = TypeVar("ResultT")


class KafkaClient:
    """Connections to the brokers of one cluster; made at the first question."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings = settings
        self.is_closed = False
        self._client: AIOKafkaClient | None = None
        self._connecting = asyncio.Lock()
        self._counts: dict[str, int] = {}
        self._cluster_id = ""
        self._slots: dict[int, list[int]] = {}
        self._slot_next = FIRST_SLOT
        self._warned_s = -WARN_INTERVAL_S

    async def connect(self) -> None:
        """Be connected. Raises ``LogUnavailableError`` with each broker's reason, within a bounded time."""
        async with self._connecting:
            self.check_open()
            if self._client is not None:
                return
            quieten()
            try:
                options = self.settings.client_options()
            except ValueError as error:
                raise LogUnavailableError(str(error)) from None
            await ensure_reachable(self.settings)
            client = AIOKafkaClient(**options)
            try:
                await client.bootstrap()
            except errors.KafkaError as error:
                await client.close()
                raise LogUnavailableError(f"Kafka cannot be reached: {error}") from error
            except BaseException:
                await client.close()
                raise
            self._client = client

    async def cluster_id(self) -> str:
        """The cluster's id."""
        if not self._cluster_id:
            await self.until_answered("the brokers", self._describe_nothing)
        return self._cluster_id

    async def count(self, topic: str) -> int:
        """How many partitions the topic has; ``UnknownTopicError`` if there is none."""
        known = self._counts.get(topic)
        return known if known is not None else await self.until_answered(topic, lambda: self._count(topic))

    async def check_place(self, place: TopicPartition) -> None:
        """Raise ``UnknownTopicError`` unless the partition exists."""
        if not 0 <= place.partition < await self.count(place.topic):
            at = f"{self.settings.topic(place.topic)}/{place.partition}"
            raise UnknownTopicError(f"there is no partition {at} in this log")

    async def check_still_there(self, topic: str) -> None:
        """Return if a topic that was counted has as many partitions as then; one that is missing gets some time.

        Raises ``UnknownTopicError`` if it was deleted, ``LogError`` if it was made anew with another count.
        """
        await self.until_answered(topic, lambda: self._look_for(topic))

    async def leader(self, place: TopicPartition) -> int:
        """The broker that leads the partition; raises aiokafka's errors while there is none, else ``LogError``."""
        await self.check_place(place)
        client = self._connected()
        at = KafkaPartition(self.settings.topic(place.topic), place.partition)
        node = client.cluster.leader_for_partition(at)
        if node is None:
            await self._look_for(place.topic)
            await client.add_topic(at.topic)
            await client.force_metadata_update()
            node = client.cluster.leader_for_partition(at)
        if node in (None, -1):
            client.force_metadata_update()
            raise errors.LeaderNotAvailableError(f"{place.topic}/{place.partition}")
        found: int = node
        return found

    async def ask(self, node: int, request: Any, slot: int = 0) -> Any:
        """The broker's answer. ``slot``: which connection to it, for requests that make others wait behind them."""
        try:
            return await self._connected().send(node, request, group=slot)
        except KeyError:  # aiokafka closes a connection that another request of it had closed before
            raise errors.KafkaConnectionError(f"broker {node}") from None

    def any_node(self) -> int:
        """Some broker."""
        node = self._connected().get_random_node()
        if node is None:
            raise errors.NoBrokersAvailable
        found: int = node
        return found

    async def coordinator(self, group: str) -> int:
        """The broker that keeps a group's positions."""
        node: int = await self._connected().coordinator_lookup(0, group)
        return node

    def look_again(self) -> None:
        """Who leads what may have changed."""
        if self._client is not None:
            self._client.force_metadata_update()

    def take_slot(self, node: int) -> int:
        """A connection to ``node`` that nobody waits on; to be given back when its answer is there."""
        free = self._slots.setdefault(node, [])
        if free:
            return free.pop()
        self._slot_next += 1
        return self._slot_next

    def give_slot(self, node: int, slot: int) -> None:
        """Undo ``take_slot``."""
        self._slots[node].append(slot)

    async def until_answered(self, what: str, attempt: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """What ``attempt`` returns, repeated with pauses while brokers are away.

        Raises ``LogError`` with what to do for what waiting does not mend: missing rights, refused credentials.
        """
        await self.connect()
        pause_s, began_s = PAUSE_FIRST_S, asyncio.get_running_loop().time()
        while True:
            self.check_open()
            try:
                return await attempt()
            except (errors.KafkaError, OSError, TimeoutError) as error:
                self.check_open()
                await self.bear(what, error, waited_s=asyncio.get_running_loop().time() - began_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def bear(self, what: str, error: Exception, *, waited_s: float) -> None:
        """Return if it is worth to try again; raises the ``LogError`` that says what to do if not."""
        if not is_passing(error):
            raise explained(error, what) from error
        self.look_again()
        now_s = asyncio.get_running_loop().time()
        if waited_s < DIAGNOSE_AFTER_S or now_s - self._warned_s < WARN_INTERVAL_S:
            return
        self._warned_s = now_s
        reason = f"{type(error).__name__} {error}".strip()
        try:
            await ensure_reachable(self.settings)
        except NotLetInError:
            raise
        except LogUnavailableError as unavailable:
            reason = str(unavailable)
        logger.warning("%s: no answer for %.0f s, trying on: %s", what, waited_s, reason)

    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""
        if self.is_closed:
            raise LogError("the log is closed")

    async def close(self) -> None:
        """Hang up."""
        self.is_closed = True
        client, self._client = self._client, None
        if client is not None:
            with suppress(errors.KafkaError, OSError):
                await client.close()

    def _connected(self) -> AIOKafkaClient:
        self.check_open()
        if self._client is None:
            raise errors.KafkaConnectionError("not connected")
        return self._client

    async def _describe_nothing(self) -> None:
        await self._describe([])

    async def _describe(self, topics: list[str]) -> list[Any]:
        """What the brokers say of topics; never makes one, as aiokafka's own question may."""
        answer = await self.ask(self.any_node(), MetadataRequest(topics, False))
        self._cluster_id = answer.cluster_id
        return list(answer.topics)

    async def _count(self, topic: str) -> int:
        ((code, _name, _internal, partitions),) = await self._describe([self.settings.topic(topic)])
        if code == UNKNOWN_TOPIC:
            raise UnknownTopicError(
                f"there is no topic {self.settings.topic(topic)} on these brokers: correct --topic-prefix, or make the "
                "topics with vip-router topics create"
            )
        if code != 0:
            raise errors.for_code(code)(topic)
        self._counts[topic] = len(partitions)
        return len(partitions)

    async def _look_for(self, topic: str) -> None:
        """A topic that we know of has no leader: it is new, or it was deleted, or made anew with another count."""
        named = self.settings.topic(topic)
        before = self._counts[topic]  # it stays known: others who ask meanwhile come here, too, and wait as well
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while True:
            try:
                now = await self._count(topic)
            except UnknownTopicError:
                if loop.time() - began_s > GONE_AFTER_S:
                    known = TOPICS.get(topic)
                    is_log = known is not None and known.written_by == "append"
                    anew = "" if is_log else ", or make it with vip-router topics create"
                    raise UnknownTopicError(
                        f"the topic {named} was deleted: restore it from a copy that keeps offsets{anew}"
                    ) from None
                await asyncio.sleep(PAUSE_FIRST_S)
                continue
            if now != before:
                raise LogError(
                    f"{named} had {before} partitions and has {now} now: {WHY_EQUAL}. Mend it: {MEND_UNEQUAL}"
                )
            return


def is_passing(error: Exception) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, errors.KafkaError):
        return bool(error.retriable) or isinstance(error, _PASSING)
    return isinstance(error, OSError | TimeoutError)


_PASSING: Final = (  # not retriable for aiokafka
    errors.BrokerNotAvailableError,
    errors.ReplicaNotAvailableError,
    errors.KafkaStorageError,
    errors.CoordinatorLoadInProgressError,
    errors.UnknownError,
    errors.KafkaUnavailableError,
)


def explained(error: Exception, what: str) -> LogError:
    """What to do about an error that does not pass."""
    if isinstance(error, errors.TopicAuthorizationFailedError | errors.ClusterAuthorizationFailedError):
        return LogError(f"{what}: the brokers do not allow it to this user: give it the rights of its roles (ACLs)")
    if isinstance(error, errors.GroupAuthorizationFailedError):
        return LogError(f"{what}: the brokers do not allow this user the consumer group: give it the right to read it")
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return LogError(f"{what}: the topic takes less than it should: set its max.message.bytes as topics check says")
    text = f"{type(error).__name__} {error}".strip()
    return LogError(f"{what}: the brokers refuse it ({text}): see their logs, and what topics check says")

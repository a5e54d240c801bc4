"""Which partitions of a role this process works on: Kafka's consumer groups share them out.

A group's members are the processes that run the role; nothing is read through it. It only decides who *tries*: what
keeps a log right is its conditional append, also while two processes believe that a partition is theirs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, errors
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.structs import TopicPartition as KafkaPartition

from events.kafka.client import KafkaClient, explained, is_passing
from events.log import LogError
from events.ownership import Change
from events.topics import AGENT_EVENTS, CONVERSATION_EVENTS, ROUTING_LOG

logger = logging.getLogger(__name__)

#: per role the topic whose partitions are shared out; each has as many as the role's log
TOPIC_OF_ROLE: Final = {"router": CONVERSATION_EVENTS, "assigner": AGENT_EVENTS, "crm": ROUTING_LOG}
GROUP: Final = "vip-router.{role}.members"
LOOK_INTERVAL_S: Final = 1.0  #: how often it is looked whether the membership has failed for good
NEVER_MS: Final = 2**31 - 1

ResultT = TypeVar("ResultT")


class KafkaOwnership:
    """Partitions of roles, owned through consumer groups."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client

    async def own(self, role: str, partitions: int, change: Change, stop: asyncio.Event) -> None:
        """Be a member of the role's group until ``stop`` is set; awaits ``change(owned)`` when other ones are owned.

        The first time it says what is owned even if that is nothing, because others have all. A partition that stays
        is in ``owned`` before and after, whatever the rebalance. While the membership is lost nothing is said until a
        new assignment is known. At the end ``change(frozenset())`` comes first, then the group is left (a static
        member stays listed until its session ends).

        Raises ``LogError`` when the topic has not ``partitions`` partitions (any more) or the brokers refuse the group,
        ``UnknownTopicError`` when the topic was deleted, and whatever ``change`` raises.
        """
        topic = TOPIC_OF_ROLE[role]
        count = await self._client.count(topic)
        if count != partitions:
            raise LogError(f"{topic} has {count} partitions, and the log of {role} {partitions}: make them equal")
        joined = await _unless(stop, self._joined(role, topic))
        if joined is None:
            return
        consumer, assigned = joined
        owned: frozenset[int] | None = None
        try:
            while not stop.is_set():
                await self._until_something(consumer, assigned, stop, role)
                if owned and assigned.partitions and not owned <= assigned.partitions:
                    owned &= assigned.partitions  # at once: others are about to work on the rest
                    await _tell(change, role, owned)
                # A member that leads the group and sees no topic leaves nothing to anybody, without a word.
                await _unless(stop, self._client.check_still_there(topic))
                if not stop.is_set() and assigned.partitions != owned:
                    owned = assigned.partitions
                    await _tell(change, role, owned)
            if owned:
                await change(frozenset())
        finally:
            await consumer.stop()

    async def has_members(self, role: str) -> bool:
        """Whether any process works at the role."""
        group = self._client.settings.topic(GROUP.format(role=role))

        async def attempt() -> int:
            answer = await self._client.ask(await self._client.coordinator(group), DescribeGroupsRequest([group]))
            ((code, _group, _state, _kind, _protocol, members, *_),) = answer.groups
            if code != 0:
                raise errors.for_code(code)(group)
            return len(members)

        return await self._client.until_answered(f"members of {role}", attempt) > 0

    async def _joined(self, role: str, topic: str) -> tuple[AIOKafkaConsumer, _Assigned]:
        async def attempt() -> tuple[AIOKafkaConsumer, _Assigned]:
            consumer = AIOKafkaConsumer(**self._options(role))
            assigned = _Assigned(consumer)
            try:
                consumer.subscribe(topics=[self._client.settings.topic(topic)], listener=assigned)
                await consumer.start()
            except BaseException:
                await consumer.stop()
                raise
            return consumer, assigned

        return await self._client.until_answered(f"members of {role}", attempt)

    async def _until_something(
        self, consumer: AIOKafkaConsumer, assigned: _Assigned, stop: asyncio.Event, role: str
    ) -> None:
        """Wait for an assignment, for ``stop``, or to look whether the group has refused us."""
        waits = [asyncio.create_task(event.wait()) for event in (assigned.changed, stop)]
        try:
            while not any(wait.done() for wait in waits):
                await asyncio.wait(waits, timeout=LOOK_INTERVAL_S, return_when=asyncio.FIRST_COMPLETED)
                await self._check(consumer, role)
        finally:
            for wait in waits:
                wait.cancel()
        assigned.changed.clear()

    async def _check(self, consumer: AIOKafkaConsumer, role: str) -> None:
        """Raise what ended the membership. All partitions are paused, so there are never records."""
        try:
            async with asyncio.timeout(LOOK_INTERVAL_S):
                await consumer.getmany(timeout_ms=0, max_records=1)
        except TimeoutError:
            return  # a rebalance is under way
        except errors.KafkaError as error:
            if not is_passing(error):
                raise explained(error, f"members of {role}") from error

    def _options(self, role: str) -> dict[str, Any]:
        settings = self._client.settings
        return settings.client_options() | {
            "group_id": settings.topic(GROUP.format(role=role)),
            "group_instance_id": settings.instance_id,
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "session_timeout_ms": settings.session_timeout_ms,
            "heartbeat_interval_ms": settings.heartbeat_interval_ms,
            "rebalance_timeout_ms": settings.session_timeout_ms,
            "max_poll_interval_ms": NEVER_MS,  # nothing is polled: the heartbeat alone says that we live
            "enable_auto_commit": False,
            "auto_commit_interval_ms": 5_000,
            "auto_offset_reset": "earliest",
            "isolation_level": "read_committed",
            "fetch_min_bytes": 1,
            "fetch_max_wait_ms": 500,
            "fetch_max_bytes": 1,  # everything is paused at once; if one fetch was faster, it brings next to nothing
            "max_partition_fetch_bytes": 1,
            "max_poll_records": 1,
            "check_crcs": False,
            "consumer_timeout_ms": 200,
            "exclude_internal_topics": True,
            "key_deserializer": None,
            "value_deserializer": None,
            "client_rack": None,
        }


async def _tell(change: Change, role: str, owned: frozenset[int]) -> None:
    logger.info("%s: works on partitions %s", role, sorted(owned))
    await change(owned)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, ResultT]) -> ResultT | None:
    """What ``work`` returns, which takes until the brokers are there; None if ``stop`` came first."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.wait({working, stopping})


class _Assigned(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """What the group has assigned last. aiokafka calls it in the background and swallows its errors: it only notes."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.partitions: frozenset[int] = frozenset()
        self.changed = asyncio.Event()
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[KafkaPartition]) -> None:
        """Nothing: most come back, and until the new assignment is known they are worked on."""

    async def on_partitions_assigned(self, assigned: Iterable[KafkaPartition]) -> None:
        """Read nothing, and tell."""
        mine = list(assigned)
        self._consumer.pause(*mine)
        self.partitions = frozenset(partition.partition for partition in mine)
        self.changed.set()

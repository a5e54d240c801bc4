"""Partitions of a role shared out by a consumer group on a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from events.kafka import client as kafka_client
from events.kafka.log import KafkaLog
from events.kafka.settings import KafkaSettings
from events.log import LogError, NewRecord, TopicPartition, UnknownTopicError
from tests.brokers.cluster import Cluster
from tests.kafka_given import COUNTS, delete, own_log, own_settings

PATIENCE_S = 30.0
INPUTS = "conversations.events"
ALL = frozenset(range(COUNTS[INPUTS]))


@dataclass
class Member:
    """One process' part in a role, and everything that it was told."""

    log: KafkaLog
    role: str = "router"
    told: list[frozenset[int]] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def change(self, owned: frozenset[int]) -> None:
        self.told.append(owned)
        self.news.set()

    async def run(self) -> None:
        await self.log.ownership.own(self.role, COUNTS["conversations.events"], self.change, self.stop)

    @property
    def owned(self) -> frozenset[int]:
        return self.told[-1] if self.told else frozenset()


@asynccontextmanager
async def member(settings: KafkaSettings) -> AsyncIterator[Member]:
    async with own_log(settings) as log:
        one = Member(log)
        running = asyncio.create_task(one.run())
        try:
            yield one
        finally:
            one.stop.set()
            await asyncio.wait_for(running, PATIENCE_S)


async def until_shared(*members: Member) -> None:
    """Wait until the members own every partition once."""
    async with asyncio.timeout(PATIENCE_S):
        while sorted(number for one in members for number in one.owned) != sorted(ALL) or not all(
            one.owned for one in members
        ):
            waits = [asyncio.create_task(one.news.wait()) for one in members]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            for one in members:
                one.news.clear()


@pytest.fixture
def settings(kafka: Cluster) -> KafkaSettings:
    return own_settings(kafka.bootstrap, SESSION_TIMEOUT="6s")


async def test_partitions_are_shared_and_handed_over(settings: KafkaSettings) -> None:
    """One member has all; a second takes half of them; when one leaves, the other has all again."""
    async with member(settings) as one:
        await until_shared(one)
        async with member(settings) as two:
            await until_shared(one, two)
            assert len(one.owned) == len(two.owned) == len(ALL) // 2
        assert two.told[-1] == frozenset()
        await until_shared(one)
    assert one.told[-1] == frozenset()
    assert all(before != after for before, after in zip(one.told, one.told[1:], strict=False))
    for before, after in zip(one.told[:-1], one.told[1:-1], strict=False):
        assert before & after, "a rebalance took everything away for a while"


async def test_a_member_that_dies_is_replaced(settings: KafkaSettings) -> None:
    """Who says nothing for the session's time loses his partitions; he learns of it when he is back."""
    async with member(settings) as one:
        async with own_log(settings) as log:
            dead = Member(log)
            running = asyncio.create_task(dead.run())
            await until_shared(one, dead)
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
        await until_shared(one)


async def test_nothing_is_read_through_the_group(settings: KafkaSettings) -> None:
    """It has no positions, and the role's own reader has every record."""
    async with member(settings) as one:
        await until_shared(one)
        records = [NewRecord("conversations.events", number, b"k", b"v") for number in ALL]
        await one.log.publish(records)
        group = "vip-router.router.members"
        places = [TopicPartition(record.topic, record.partition) for record in records]
        assert await one.log.committed(group, places) == {}
        reader = one.log.reader(dict.fromkeys(places, 0))
        found: set[int] = set()
        async with asyncio.timeout(PATIENCE_S):
            while found != ALL:
                found |= {record.partition for record in await reader.fetch(records_max=10, timeout_s=None)}


async def test_another_number_of_partitions_is_refused(settings: KafkaSettings) -> None:
    """The shared topic must have as many partitions as the role's log."""
    async with own_log(settings) as log:
        one = Member(log, role="assigner")
        with pytest.raises(LogError, match=r"agents\.events has 2 partitions, and the log of assigner 4"):
            await one.run()
        assert one.told == []


async def test_what_a_change_raises_ends_the_membership(settings: KafkaSettings) -> None:
    """Whoever cannot take over says so to his caller; the others get the partitions."""
    async with member(settings) as one, own_log(settings) as log:
        await until_shared(one)
        bad = Member(log)

        async def fail(_owned: frozenset[int]) -> None:
            raise ZeroDivisionError

        bad.change = fail  # type: ignore[assignment,method-assign]
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(bad.run(), PATIENCE_S)
        await until_shared(one)


async def test_nobody_is_told_that_he_has_nothing_because_the_topic_is_gone(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group leaves nothing to anybody then: that ends every membership with what to do."""
    monkeypatch.setattr(kafka_client, "GONE_AFTER_S", 0.2)
    async with own_log(settings) as log, KafkaLog(settings) as other:
        one, two = Member(log), Member(other)
        running = [asyncio.create_task(member.run()) for member in (one, two)]
        await until_shared(one, two)
        await delete(settings, INPUTS)
        for task in running:
            with pytest.raises(UnknownTopicError, match="was deleted: restore it"):
                await asyncio.wait_for(task, PATIENCE_S)
        assert frozenset() not in one.told + two.told


async def test_a_topic_that_is_missing_for_a_moment_ends_no_membership(
    settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is being made anew: what that means is for those to say who read it."""
    async with member(settings) as one:
        await until_shared(one)
        looked, found = asyncio.Event(), asyncio.Event()
        look = one.log.client.check_still_there

        async def check_still_there(topic: str) -> None:
            looked.set()
            await look(topic)
            found.set()

        monkeypatch.setattr(one.log.client, "check_still_there", check_still_there)
        await delete(settings, INPUTS)
        await asyncio.wait_for(looked.wait(), PATIENCE_S)
        async with own_log(settings):
            pass
        await asyncio.wait_for(found.wait(), PATIENCE_S)
        await until_shared(one)


async def test_stopping_does_not_wait_for_brokers(kafka: Cluster, settings: KafkaSettings) -> None:
    """Whoever is told to stop while the group cannot be joined ends at once, and was told nothing."""
    async with own_log(settings) as log:
        one = Member(log)
        await log.partition_count("conversations.events")
        kafka[1].pause()
        running = asyncio.create_task(one.run())
        await asyncio.wait([running], timeout=0.1)
        one.stop.set()
        await asyncio.wait_for(running, PATIENCE_S)
        kafka[1].resume()
        assert one.told == []

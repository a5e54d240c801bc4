"""The world around the lanes: producers that follow their scripts and repeat themselves, agents, and the CRM.

They write without faults of their own: what goes wrong there is chosen here (repeated, foreign partition, an answer
that comes twice, late or never).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final

import orjson

from events.crm_answers import encode_crm_answer
from events.log import NewRecord, StoredRecord, TopicPartition
from events.times import format_time
from events.topics import AGENT_EVENTS, ASSIGNMENTS, CONVERSATION_EVENTS, ROUTING_LOG, partition_of
from routing.inputs import CrmAnswered, CrmFailed
from tests.simulation.broker import Broker
from tests.simulation.workload import Said

REPEAT_AFTER_MAX_S: Final = 90.0
CRM_MOODS: Final = ("quick", "quick", "quick", "slow", "twice", "failing", "unknown", "edge", "edge", "late", "never")
DESK_MOODS: Final = ("accepts", "accepts", "twice", "declines", "silent", "late", "edge", "wrong", "another")
CRM_DEADLINE_S: Final = 15.0  #: of the simulation's policies


class Producers:
    """Writes scripts into the input topics, as fast as their gaps say."""

    def __init__(self, broker: Broker, rng: Random, *, repeat_rate: float, foreign_rate: float) -> None:
        self._broker = broker
        self._rng = rng
        self._repeat_rate = repeat_rate
        self._foreign_rate = foreign_rate
        self._repeats: list[asyncio.Task[None]] = []
        self.published = 0

    async def follow(self, script: list[Said]) -> None:
        """Publish a script's events in their order."""
        for said in script:
            if said.after_s > 0:
                await asyncio.sleep(said.after_s)
            record = self._record(said)
            await self._publish(record)
            while self._rng.random() < self._repeat_rate:
                self._repeats.append(asyncio.create_task(self._repeat(record, self._rng.random() ** 2)))

    async def finish(self) -> None:
        """Wait until the last repetition is out."""
        await asyncio.gather(*self._repeats)

    async def _repeat(self, record: NewRecord, part: float) -> None:
        await asyncio.sleep(part * REPEAT_AFTER_MAX_S)
        await self._publish(record)

    async def _publish(self, record: NewRecord) -> None:
        await self._broker.memory.publish([record])
        self.published += 1

    def _record(self, said: Said) -> NewRecord:
        topic = CONVERSATION_EVENTS if said.contact else AGENT_EVENTS
        key = said.contact or said.workspace or "default"
        count = self._broker.partitions[topic]
        partition = partition_of(key, count)
        if count > 1 and self._rng.random() < self._foreign_rate:
            partition = (partition + 1) % count
        return NewRecord(topic, partition, key.encode(), said.junk or self._event(said, key))

    def _event(self, said: Said, key: str) -> bytes:
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": said.id,
            "source": "/platform",
            "type": said.type,
            "time": format_time(self._broker.clock_ms()),
            "partitionkey": key,
            "data": said.data,
        }
        if said.subject is not None:
            event["subject"] = said.subject
        if said.workspace is not None:
            event["workspace"] = said.workspace
        return orjson.dumps(event)


class _Answerer(ABC):
    """Somebody who follows a topic and answers what he reads there, in one of his moods."""

    topic: ClassVar[str]

    def __init__(self, broker: Broker, rng: Random, count: Callable[[str], None]) -> None:
        self._broker = broker
        self._rng = rng
        self._count = count
        self._answers: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        places = [TopicPartition(self.topic, number) for number in range(self._broker.partitions[self.topic])]
        reader = self._broker.reader(dict.fromkeys(places, 0))
        while True:
            for stored in await reader.fetch(records_max=50, timeout_s=None):
                self._read(stored)

    @abstractmethod
    def _read(self, stored: StoredRecord) -> None:
        """Answer a record, if it asks."""

    def _say_later(self, answer: NewRecord, wait_s: float) -> None:
        self._answers.append(asyncio.create_task(self._say(answer, wait_s)))

    async def _say(self, answer: NewRecord, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        await self._broker.memory.publish([answer])


class SimulatedDesk(_Answerer):
    """Agents who answer what they are offered."""

    topic = ASSIGNMENTS

    def _read(self, stored: StoredRecord) -> None:
        event = orjson.loads(stored.value or b"{}")
        if event["type"] == "conversation.offered":
            self._hear(event)

    def _hear(self, offer: dict[str, Any]) -> None:
        mood = self._rng.choice(DESK_MOODS)
        self._count(f"offer {mood}")
        wait_s = {"late": 20 + 40 * self._rng.random(), "edge": 19 + 2 * self._rng.random()}.get(mood, 5.0)
        times = {"silent": 0, "twice": 2}.get(mood, 1)
        for _ in range(times):
            self._say_later(self._said(mood, offer), wait_s * self._rng.random())

    def _said(self, mood: str, offer: dict[str, Any]) -> NewRecord:
        data, workspace = offer["data"], offer["workspace"]
        kind = "declined" if mood == "declines" else "accepted"
        event = {
            "specversion": "1.0",
            "id": f"{offer['id']}/{kind}",
            "source": "/desk",
            "type": f"assignment.{kind}",
            "subject": "zoe" if mood == "another" else data["agent"],
            "time": format_time(self._broker.clock_ms()),
            "partitionkey": workspace,
            "data": {
                "conversation": offer["subject"],
                "contact": data["contact"],
                "token": "wrong" if mood == "wrong" else data["token"],
            },
        }
        return NewRecord(AGENT_EVENTS, 0, workspace.encode(), orjson.dumps(event))


class SimulatedCrm(_Answerer):
    """Answers the look-ups that stand in ``routing.log``."""

    topic = ROUTING_LOG

    def _read(self, stored: StoredRecord) -> None:
        if self._broker.exists(stored) and b'"lookup"' in (stored.value or b""):
            self._ask(stored.partition, orjson.loads(stored.value or b""))

    def _ask(self, partition: int, record: dict[str, Any]) -> None:
        mood = self._rng.choice(CRM_MOODS)
        self._count(f"crm {mood}")
        if mood == "never":
            return
        wait_s = {
            "quick": self._rng.random(),
            "slow": 4 + 10 * self._rng.random(),
            "edge": CRM_DEADLINE_S - 5 + 5.5 * self._rng.random(),
            "late": CRM_DEADLINE_S + 1 + 40 * self._rng.random(),
        }.get(mood, 2 * self._rng.random())
        for number in range(2 if mood == "twice" else 1):
            answer = self._answer(mood, record, partition, wrong=number == 0 and self._rng.random() < 0.05)
            self._say_later(answer, wait_s * (number + 1))

    def _answer(self, mood: str, record: dict[str, Any], partition: int, *, wrong: bool) -> NewRecord:
        data = record["data"]
        lookup_id = "another/1" if wrong else data["lookup"]["id"]
        body: CrmAnswered | CrmFailed
        if mood == "failing":
            body = CrmFailed(lookup_id=lookup_id, reason="http-error", status=500, attempts=3)
        else:
            status = 404 if mood == "unknown" else 200
            customer = self._rng.choice(["VIP", "vip", "plain"])
            variables = {} if status == 404 else {"customer_type": customer, "account_manager": "zoe"}
            body = CrmAnswered(lookup_id=lookup_id, status=status, variables=variables, attempts=1, latency_ms=7)
        return encode_crm_answer(
            body,
            workspace=record["workspace"],
            contact=record["partitionkey"],
            conversation=record["subject"],
            seq=data["seq"],
            partition=partition,
            now_ms=self._broker.clock_ms(),
        )

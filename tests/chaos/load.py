"""What producers write while faults happen: the simulation's conversations, at a steady rate, and probes.

A probe is a conversation with an address, opened on a partition of its own choice several times a second: it tells when
a partition works again. Whoever is assigned is closed a moment later, as by an agent, so that agents have room again.
Everything is written until it is acknowledged, under the same id; some once more, late; some on a wrong partition.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from itertools import count
from random import Random
from typing import Any, Final, cast

from aiokafka import AIOKafkaProducer, errors

from events.log import NewRecord
from events.topics import partition_counts, partition_of
from tests.chaos.downstream import Conversation
from tests.simulation.broker import Broker
from tests.simulation.outside import Producers
from tests.simulation.workload import Said, contact_script

CONTACTS: Final = 4  #: P
WORKSPACES: Final = 2  #: W
WORKSPACE_NAMES: Final = ("default", "other")  #: one for each partition
COUNTS: Final = partition_counts(CONTACTS, WORKSPACES)
SUPPORT: Final = tuple(f"s{number}" for number in range(1, 9))
TEAMS: Final = {"anna": "vip-desk", "dora": "vip-desk", "maya": "managers", "mick": "managers"}
PROBE: Final = "p"
PROBE_INTERVAL_S: Final = 0.2  #: between probes; each pair of partitions has its own in turn
SCRIPT_INTERVAL_S: Final = 0.5
AGENT_INTERVAL_S: Final = 0.8
CLOSE_AFTER_MAX_S: Final = 0.4
REPEAT_AFTER_MAX_S: Final = 12.0
PAUSE_S: Final = 0.1
GIVE_UP_S: Final = 30.0  #: without an acknowledgement; then another producer tries
CLOSE_S: Final = 5.0
UNDER_WAY_MAX: Final = 3_000  #: events not yet acknowledged; above that producers wait


class Writing:
    """Writes events until they are acknowledged; stands where the simulation's producers expect their broker.

    A plain producer with batches of its own choice, as a platform has it; one that does not get through is replaced.
    """

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.partitions = COUNTS
        self.memory = self
        self.acknowledged: dict[tuple[str, int], Counter[bytes]] = {}
        self.changed_s = time.monotonic()  #: when an event was acknowledged last
        self._bootstrap = bootstrap
        self._prefix = prefix
        self._room = asyncio.Semaphore(UNDER_WAY_MAX)
        self._starting = asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None
        self._old: list[AIOKafkaProducer] = []

    def clock_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    async def publish(self, records: Sequence[NewRecord]) -> None:
        """Return when all are acknowledged."""
        async with self._room:
            for record in records:
                while not await self._sent(record):  # noqa: ASYNC110 - there is nothing to wait for but brokers
                    await asyncio.sleep(PAUSE_S)
        self.changed_s = time.monotonic()
        for record in records:
            place = self.acknowledged.setdefault((record.topic, record.partition), Counter())
            place[record.value or b""] += 1

    async def close(self) -> None:
        """Hang up, whatever is under way."""
        producers = [*self._old, *([self._producer] if self._producer else [])]
        stops = [asyncio.wait_for(producer.stop(), CLOSE_S) for producer in producers]
        await asyncio.gather(*stops, return_exceptions=True)

    async def _sent(self, record: NewRecord) -> bool:
        producer = None
        try:
            producer = await self._started()
            sent = await producer.send(
                self._prefix + record.topic, record.value, key=record.key, partition=record.partition
            )
            await asyncio.wait_for(asyncio.shield(sent), GIVE_UP_S)
        except (errors.KafkaError, OSError, TimeoutError):
            if producer is not None and producer is self._producer:
                self._old.append(producer)
                self._producer = None
            return False
        return True

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id="platform",
                    enable_idempotence=True,
                    acks="all",
                    linger_ms=5,
                    request_timeout_ms=3_000,
                    retry_backoff_ms=50,
                    metadata_max_age_ms=2_000,
                )
                try:
                    await asyncio.wait_for(producer.start(), GIVE_UP_S)
                except BaseException:
                    self._old.append(producer)
                    raise
                self._producer = producer
            return self._producer


class Platform(Producers):
    """The simulation's producers; what they repeat comes earlier."""

    async def _repeat(self, record: NewRecord, part: float) -> None:
        await asyncio.sleep(part * REPEAT_AFTER_MAX_S)
        await self._publish(record)


class Load:
    """Everybody who writes."""

    def __init__(self, bootstrap: str, prefix: str, rng: Random) -> None:
        self.writing = Writing(bootstrap, prefix)
        self.opened_s: dict[str, float] = {}  #: by the contact of each probe
        self._platform = Platform(cast("Broker", self.writing), rng, repeat_rate=0.1, foreign_rate=0.05)
        self._rng = rng
        self._ending = asyncio.Event()
        self._group: set[asyncio.Task[None]] = set()
        self._ids = count(1)

    @property
    def messages(self) -> int:
        """How many events were acknowledged."""
        return sum(place.total() for place in self.writing.acknowledged.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way; what is assigned later is closed all the same."""
        return not self._group

    async def run(self) -> None:
        """Write until ``finish``; then see that all agents are there, and that all that was begun is written."""
        await asyncio.gather(self._probes(), self._scripts(), self._agents())
        await self._platform.follow([self._agent_record(agent, name, room=20) for agent, name in self._everybody()])
        await self._platform.follow([self._presence(agent, name, "online") for agent, name in self._everybody()])
        await self._platform.finish()

    def finish(self) -> None:
        """Begin nothing new."""
        self._ending.set()

    def assigned(self, conversation: Conversation, event: dict[str, Any]) -> None:
        """Somebody has got a conversation: he closes it soon."""
        workspace, contact, name = conversation
        said = Said(
            self._rng.random() * CLOSE_AFTER_MAX_S, "conversation.closed", f"close/{event['id']}", contact, workspace,
            name, {"reason": "done"},
        )  # fmt: skip
        self._spawn([said])

    def _spawn(self, script: list[Said]) -> None:
        task = asyncio.create_task(self._platform.follow(script))
        self._group.add(task)
        task.add_done_callback(self._group.discard)

    async def _every(self, interval_s: float) -> bool:
        """Wait; whether to go on."""
        try:
            await asyncio.wait_for(self._ending.wait(), interval_s)
        except TimeoutError:
            return True
        return False

    async def _probes(self) -> None:
        """One probe after the other, on each pair of partitions in turn."""
        numbers = count(1)
        turns = count()
        while await self._every(PROBE_INTERVAL_S):
            turn = next(turns)
            home, workspace = turn % CONTACTS, WORKSPACE_NAMES[turn // CONTACTS % WORKSPACES]
            contact = next(name for name in (f"{PROBE}{n}" for n in numbers) if partition_of(name, CONTACTS) == home)
            self.opened_s[contact] = time.monotonic()
            data = {"contact": {"id": contact, "email": f"{contact}@example.com"}}
            self._spawn([Said(0, "conversation.opened", f"{contact}e1", contact, workspace, f"{contact}v1", data)])

    async def _scripts(self) -> None:
        """The life of one contact after the other."""
        for number in count(1):
            if not await self._every(SCRIPT_INTERVAL_S):
                return
            self._spawn(contact_script(self._rng, f"k{number}", steps=self._rng.randint(0, 3), gap_s=0.4))

    async def _agents(self) -> None:
        """Agents come and go, and are given more or less room."""
        while await self._every(AGENT_INTERVAL_S):
            agent, workspace = self._rng.choice(SUPPORT), self._rng.choice(WORKSPACE_NAMES)
            kind = self._rng.choices(["record", "presence", "removed"], [4, 6, 1])[0]
            if kind == "record":
                said = self._agent_record(agent, workspace, room=self._rng.choice([0, 1, 3, 6, 10, 20]))
            elif kind == "presence":
                said = self._presence(agent, workspace, self._rng.choice(["online", "online", "away", "offline"]))
            else:
                said = self._said("agent.removed", agent, workspace, {})
            self._spawn([said])

    def _everybody(self) -> list[tuple[str, str]]:
        return [(agent, workspace) for workspace in WORKSPACE_NAMES for agent in (*SUPPORT, *TEAMS)]

    def _agent_record(self, agent: str, workspace: str, *, room: int) -> Said:
        data = {"teams": [TEAMS.get(agent, "support")], "email": f"{agent}@firm.example", "max_open": room}
        return self._said("agent.updated", agent, workspace, data)

    def _presence(self, agent: str, workspace: str, status: str) -> Said:
        return self._said("agent.presence", agent, workspace, {"status": status})

    def _said(self, type: str, agent: str, workspace: str, data: dict[str, Any]) -> Said:
        return Said(0, type, f"agent{next(self._ids)}", "", workspace, agent, data)

"""One run: topics of its own, workers, a load and watchers; faults for a while; then peace, an end, the judgement."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple
from unittest.mock import patch

from aiokafka import errors
from aiokafka.admin import AIOKafkaAdminClient

from consumers.settings import ServeSettings
from events.kafka.log import KafkaLog
from events.kafka.settings import kafka_settings
from events.topics import partition_of
from routing.policy import Policy
from tests.chaos import faults as known
from tests.chaos.arena import Arena
from tests.chaos.downstream import Conversation, Downstream
from tests.chaos.faults import STREAMS, WEIGHT, WEIGHTS, Fault
from tests.chaos.field import Field
from tests.chaos.judging import Left, judge, read_all
from tests.chaos.load import CONTACTS, COUNTS, PROBE, WORKSPACES, Load
from tests.chaos.setting import ENVIRONMENT, Pace
from tests.chaos.tally import Place, Tally
from tests.chaos.watching import LogWatch, PublicWatch
from tests.chaos.worker import PLANT
from tests.chaos.workers import KINDS, Workers
from tests.processes import TOKEN

RECOVER_TIMEOUT_S: Final = 240.0  #: for everything to work again once nothing is broken any more
STUCK_S: Final = 90.0  #: without a record and an event, while conversations are on their way
REST_S: Final = 2.0  #: without a record, when no conversation is on its way: all is done
POLL_S: Final = 0.1
TELL_INTERVAL_S: Final = 15.0


class Grounds(NamedTuple):
    """Where a run happens."""

    arena: Arena
    folder: Path
    policies: Path
    policy: Policy


class Plan(NamedTuple):
    """What happens in a run: these faults in their order, or any of ``kinds`` for ``seconds``."""

    seed: int
    pace: Pace
    script: Sequence[Sequence[type[Fault]]] = ()
    kinds: frozenset[str] = frozenset(known.NAMES)
    seconds: float = 0.0
    cycles_max: int = 1_000_000
    keeps_going: bool = False  #: also when a promise is broken
    plant: str = ""  #: a bug of all workers
    logs: Path | None = None  #: a folder for what workers say


class Run:
    """A run under way."""

    def __init__(self, where: Grounds, plan: Plan, tally: Tally) -> None:
        self._where = where
        self._plan = plan
        self._tally = tally
        self._rng = Random(f"chaos {plan.seed}")
        self._prefix = f"chaos-{plan.seed}-{time.time_ns() // 1_000_000}."
        self._url = f"kafka://{where.arena.cluster.bootstrap}"
        self.left: Left | None = None  #: what was judged
        self._cycles_max = tally.faults.total() + plan.cycles_max

    async def run(self) -> None:
        """All of it; what is wrong stands in the tally."""
        environment = {**ENVIRONMENT, "CRM_TOKEN": TOKEN}
        settings = kafka_settings(self._url, environment, topic_prefix=self._prefix)
        with patch.dict(os.environ, environment):
            async with KafkaLog(settings, create=COUNTS) as log:
                try:
                    await self._with(log)
                finally:
                    await self._delete()

    async def _with(self, log: KafkaLog) -> None:
        workers = self._workers()
        load = Load(self._where.arena.cluster.bootstrap, self._prefix, self._rng)
        seen = LogWatch(log, self._tally)

        def assigned(conversation: Conversation, event: dict[str, Any]) -> None:
            load.assigned(conversation, event)
            self._assigned(conversation, load)

        downstream = Downstream(self._tally.violated, assigned)
        public = PublicWatch(self._where.arena.cluster.bootstrap, self._prefix, downstream, self._tally)
        try:
            async with _background(public.run(), seen.run(), workers.keep_alive(), self._telling(load)) as failed:
                for kind in KINDS[self._plan.seed % len(KINDS)]:
                    workers.start(kind)
                loading = asyncio.create_task(load.run())
                field = self._field(workers)
                await self._trouble(field, failed)
                await self._recovered(field)
                load.finish()
                await loading
                await self._drained(field, load, seen)
            for worker in workers.alive():
                await workers.stop(worker)
            await self._judge(log, load, seen, public, downstream)
        finally:
            workers.close()
            await load.writing.close()
            if self._plan.logs is not None:
                workers.keep_logs(self._plan.logs)

    def _workers(self) -> Workers:
        arguments = ["--policy", str(self._where.policies), "--log", self._url, "--topic-prefix", self._prefix]
        environment = {**ENVIRONMENT, PLANT: self._plan.plant}
        return Workers(arguments, environment, self._where.folder, self._rng, self._tally)

    def _field(self, workers: Workers) -> Field:
        serving = ServeSettings(policy=self._where.policies, log_url=self._url, topic_prefix=self._prefix)
        return Field(self._where.arena, workers, self._tally, self._plan.pace, self._rng, serving, self._prefix)

    def _assigned(self, conversation: Conversation, load: Load) -> None:
        """Probes tell that the partitions they came through work."""
        workspace, contact, _ = conversation
        opened_s = load.opened_s.get(contact) if contact.startswith(PROBE) else None
        if opened_s is not None:
            home = partition_of(contact, CONTACTS)
            places = [Place("router", home), Place("crm", home), Place("assigner", partition_of(workspace, WORKSPACES))]
            self._tally.assigned(places, opened_s)

    async def _trouble(self, field: Field, failed: asyncio.Event) -> None:
        """Wait until everything works, then let faults happen."""
        self._tally.begin("start", field.all_places())
        if not await self._standing_again(field):
            return
        if self._plan.script:
            streams = [self._scripted(field, stream) for stream in self._plan.script]
        else:
            chosen = [[fault for fault in stream if fault.name in self._plan.kinds] for stream in STREAMS]
            streams = [self._random(field, stream, failed) for stream in chosen if stream]
        await asyncio.gather(*streams)

    async def _scripted(self, field: Field, stream: Sequence[type[Fault]]) -> None:
        for fault in stream:
            await fault().run(field)

    async def _random(self, field: Field, stream: Sequence[type[Fault]], failed: asyncio.Event) -> None:
        until_s = time.monotonic() + self._plan.seconds
        weights = [WEIGHTS.get(fault.name, WEIGHT) for fault in stream]
        while (
            time.monotonic() < until_s
            and not failed.is_set()
            and (self._plan.keeps_going or not self._tally.violations)
        ):
            if self._tally.faults.total() >= self._cycles_max:
                return
            (fault,) = self._rng.choices(stream, weights)
            await fault().run(field)
            await asyncio.sleep(self._rng.random() * self._plan.pace.pause_s)

    async def _recovered(self, field: Field) -> None:
        """Nothing is broken any more: every partition works again."""
        await field.all_left()
        self._tally.begin("peace", field.all_places())
        await self._standing_again(field)

    async def _standing_again(self, field: Field) -> bool:
        """Wait until every partition has recovered from everything; whether they did in time."""
        recovered = await field.until(lambda: not self._tally.standing, timeout_s=RECOVER_TIMEOUT_S)
        for recovery in self._tally.standing:
            self._tally.violated("progress", f"no assignment after {recovery.kind}: {sorted(recovery.waiting)}")
        self._tally.give_up()
        return recovered

    async def _drained(self, field: Field, load: Load, seen: LogWatch) -> None:
        """Every conversation comes to rest, and nothing happens any more. As long as something does, it may last."""

        def still_s() -> float:
            return time.monotonic() - max(seen.changed_s, load.writing.changed_s)

        def at_rest() -> bool:
            return still_s() > REST_S and load.is_idle and not seen.restless and not seen.waiting()

        while not at_rest() and still_s() < STUCK_S:
            await field.until(at_rest, timeout_s=REST_S)
        if not at_rest():
            stuck = f"{seen.restless[:3]} on their way, {seen.waiting()} wait, producers idle: {load.is_idle}"
            self._tally.violated("progress", f"it does not come to rest: {stuck}")

    async def _judge(
        self, log: KafkaLog, load: Load, seen: LogWatch, public: PublicWatch, downstream: Downstream
    ) -> None:
        topics = await read_all(log)
        self.left = Left(topics, load.writing.acknowledged, seen.seen)
        for place, position in public.positions.items():  # what a clean stop has still published
            for record in topics[place]:
                if record.offset >= position:
                    downstream.feed(place.topic, place.partition, record.offset, record.value or b"")
        await asyncio.to_thread(judge, self.left, self._where.policy, self._tally)
        self._tally.counts["messages"] += load.messages
        self._tally.counts["records"] += sum(len(topics[place]) for place in seen.seen)
        self._tally.counts["outputs"] += downstream.outputs
        self._tally.counts["repeated outputs"] += downstream.repeated
        fenced = sum(log.fenced_records().values())
        self._tally.counts["records fenced off"] += fenced

    async def _telling(self, load: Load) -> None:
        """Progress for people."""
        while True:
            await asyncio.sleep(TELL_INTERVAL_S)
            messages = self._tally.counts["messages"] + load.messages
            self._tally.tell(f"{self._tally.faults.total():,} cycles, {messages:,} messages, {self._tally.broken}")

    async def _delete(self) -> None:
        """Remove the run's topics, so that brokers stay quick."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._where.arena.cluster.bootstrap, request_timeout_ms=10_000)
        with suppress(errors.KafkaError, OSError):  # a run that was broken off leaves its brokers in any state
            await admin.start()
            await admin.delete_topics([self._prefix + topic for topic in COUNTS])
        await admin.close()


@asynccontextmanager
async def _background(*work: Any) -> AsyncIterator[asyncio.Event]:
    """Run these beside the body; the event says that one of them has ended, and its error is raised at the end."""
    failed = asyncio.Event()
    tasks = [asyncio.create_task(one) for one in work]
    for task in tasks:
        task.add_done_callback(lambda _: failed.set())
    try:
        yield failed
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

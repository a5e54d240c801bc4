"""A whole run: producers, CRM and the lanes' processes, with somebody who starts, kills and stalls these.

First there is trouble, then the faults stop: of every lane somebody is left, or is started anew, and has hours of
virtual time to finish everything. What is left then is judged by the oracles.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final
from unittest.mock import patch
from uuid import UUID

from consumers import lane, policy_book, publisher, restore, snapshots
from consumers.lane_spec import LaneSpec
from consumers.specs import ASSIGNER, ROUTER
from tests.simulation import setting
from tests.simulation.broker import Broker
from tests.simulation.faults import Faults
from tests.simulation.faulty_log import FaultyLog
from tests.simulation.observer import Observer
from tests.simulation.outside import Producers, SimulatedCrm, SimulatedDesk
from tests.simulation.processes import Process, track_tasks
from tests.simulation.virtual_loop import run_virtual
from tests.simulation.workload import agents_script, contact_script

CONTACT_PARTITIONS: Final = 2
WORKSPACE_PARTITIONS: Final = 1
SETTLE_S: Final = 5_400.0
SETTLE_ROUNDS: Final = 90
RESTLESS_TAKEOVERS: Final = 8  #: in one round after the faults have stopped
RESTLESS_ROUNDS_MAX: Final = 6
RESTARTS: Final = 5  #: clean ones, of each lane in a calm run
SKEWS_MS: Final = (0, 0, -90_000, 120_000, 240_000)  #: apart by less than the limit that stops a lane
OWNERS_MAX: Final = 2
HOURS_POLICY: Final = 3  #: the policy whose teams open and close all the time


@dataclass(kw_only=True)
class Plan:
    """What a run is like; ``of_seed`` chooses."""

    seed: int
    plain: bool  #: the log has no conditional append
    joins: bool  #: its append takes the outputs along
    trouble_s: float
    contacts: int
    agents: int
    policy: int  #: which policies the processes have, see ``setting.py``
    mixed: bool  #: each process has policies of its own
    steps: int
    gap_s: float
    repeat_rate: float
    foreign_rate: float
    calm: bool = False  #: no faults, nobody interferes, clocks and policies agree
    crash_at: tuple[str, int, bool] | None = None  #: this process dies at this call, before or after its effect

    @classmethod
    def of_seed(cls, seed: int) -> Plan:
        """The plan of a seed: a third on logs of plain records, a sixth on one that joins outputs, a tenth calm."""
        rng = Random(f"plan {seed}")
        return cls(
            seed=seed,
            plain=seed % 3 == 2,
            joins=seed % 3 == 1 and seed % 2 == 0,
            calm=seed % 10 == 0,
            trouble_s=rng.choice((40.0, 120.0, 300.0)),
            contacts=rng.choice((2, 4, 6, 10)),
            agents=rng.randint(1, 4),
            policy=HOURS_POLICY if seed % 5 == 4 else seed % 3,
            mixed=rng.random() < 0.4,
            steps=rng.randint(1, 6),
            gap_s=rng.choice((2.0, 20.0, 60.0)),
            repeat_rate=rng.choice((0.0, 0.1, 0.3)),
            foreign_rate=rng.choice((0.0, 0.05, 0.2)),
        )


class World:
    """One run of one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rng = Random(f"world {plan.seed}")
        self.faults = Faults.of_seed(Random(f"faults {plan.seed}"))
        self.faults.on = not plan.calm
        self.counts: Counter[str] = self.faults.counts
        self.broker = Broker(
            contacts=CONTACT_PARTITIONS,
            workspaces=WORKSPACE_PARTITIONS,
            plain=plan.plain,
            joins=plan.joins,
            clock_ms=self.now_ms,
        )
        self.observer = Observer(self.broker)
        self.processes: list[Process] = []
        self.survivors: list[Process] = []
        self.inputs = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = count(1)

    def now_ms(self) -> int:
        """The true time, Unix milliseconds."""
        return setting.START_MS + (0 if self._loop is None else int(self._loop.time() * 1_000))

    def run(self) -> None:
        """Run it all, in virtual time and with tiny batches; ends when all lanes have stopped."""
        log_ids = Random(f"log ids {self.plan.seed}")
        with (
            patch.object(restore, "uuid4", lambda: UUID(int=log_ids.getrandbits(128))),
            patch.object(restore, "READ_RECORDS", 7),
            patch.object(snapshots, "READ_RECORDS", 5),
            patch.object(snapshots, "CHUNK_RECORDS", 2),
            patch.object(publisher, "BATCH_RECORDS_MAX", 3),
            patch.object(lane, "random", Random(f"pauses {self.plan.seed}").random),
            patch.object(policy_book, "parse_policy", lambda text, **_: setting.parsed(text)),
        ):
            run_virtual(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_task_factory(track_tasks)  # type: ignore[arg-type] # typeshed lags behind
        crm = SimulatedCrm(self.broker, Random(f"crm {self.plan.seed}"), self._count)
        answering = asyncio.create_task(crm.run())
        desk = SimulatedDesk(self.broker, Random(f"desk {self.plan.seed}"), self._count)
        accepting = asyncio.create_task(desk.run())
        producing = asyncio.create_task(self._produce())
        places = [(ROUTER, number) for number in range(CONTACT_PARTITIONS)] + [(ASSIGNER, 0)]
        await asyncio.gather(*(self._trouble(spec, partition) for spec, partition in places))
        self.faults.on = False
        for spec, partition in places:
            await self._settle(spec, partition)
        await producing
        await self._calm_down()
        await asyncio.gather(*(process.stopped() for process in self.processes if process.is_running))
        answering.cancel()
        accepting.cancel()
        for process in self.processes:
            error = process.fault_of_ours()
            if error is not None:
                self.observer.violated("alive", f"{process.name} ended with {error!r}")

    async def _calm_down(self) -> None:
        """Hours without faults; ends early once something is known to be wrong, or nobody comes to rest."""
        restless = 0
        for _ in range(SETTLE_ROUNDS):
            takeovers = self.observer.takeovers
            await asyncio.sleep(SETTLE_S / SETTLE_ROUNDS)
            restless = restless + 1 if self.observer.takeovers - takeovers >= RESTLESS_TAKEOVERS else 0
            if restless > RESTLESS_ROUNDS_MAX:
                self.observer.violated("progress", "nothing goes wrong any more, and lanes take over again and again")
            for number, process in enumerate(self.survivors):
                if (
                    not process.is_running and process.fault_of_ours() is None
                ):  # an error of before was still on its way
                    self.survivors[number] = self._start(process.lane._spec, process.place.partition)
                elif process.port.stalled_until_s + 60 < asyncio.get_running_loop().time():
                    self.observer.follows(process)
            if self.observer.violations:
                raise self.observer.violations[0]

    async def _produce(self) -> None:
        rng = Random(f"workload {self.plan.seed}")
        plan = self.plan
        producers = Producers(self.broker, rng, repeat_rate=plan.repeat_rate, foreign_rate=plan.foreign_rate)
        scripts = [
            contact_script(rng, f"k{number}", steps=plan.steps, gap_s=plan.gap_s)
            for number in range(1, plan.contacts + 1)
        ]
        scripts.append(agents_script(rng, agents=plan.agents, steps=3 * plan.steps, gap_s=plan.gap_s))
        await asyncio.gather(*map(producers.follow, scripts))
        await producers.finish()
        self.inputs = producers.published

    def reading(self) -> FaultyLog:
        """The log as somebody sees it who only reads, when all is over."""
        self.faults.on = False
        return FaultyLog(self.broker, self.faults, self.observer, "reader")

    # --- who works, and who interferes ---

    def _start(self, spec: LaneSpec, partition: int) -> Process:
        number = next(self._numbers)
        calm = self.plan.calm
        port = FaultyLog(self.broker, self.faults, self.observer, f"{spec.role}-{partition} #{number}")
        process = Process(
            port, self.observer, spec, partition,
            setting.book(self._policies()),
            skew_ms=0 if calm else self.rng.choice(SKEWS_MS),
        )  # fmt: skip
        self.observer.processes[process.name] = (process.skew_ms, self.now_ms())
        self.processes.append(process)
        if self.plan.crash_at is not None and self.plan.crash_at[0] == process.name:
            port.crash_at = self.plan.crash_at[1:]
        process.start()
        return process

    def _running(self, spec: LaneSpec, partition: int) -> list[Process]:
        return [
            process for process in self.processes if process.place == (spec.log_topic, partition) and process.is_running
        ]

    async def _trouble(self, spec: LaneSpec, partition: int) -> None:
        process = self._start(spec, partition)
        if self.plan.calm:
            await self._restarts(process, spec, partition)
            return
        until_s = self.plan.trouble_s
        loop = asyncio.get_running_loop()
        patience_s = self.rng.choice((6.0, 20.0, 60.0))
        while loop.time() < until_s and not self.observer.violations:
            await asyncio.sleep(self.rng.random() * patience_s)
            running = self._running(spec, partition)
            if not running:
                self._start(spec, partition)
            else:
                await self._interfere(self.rng.choice(running), len(running), spec, partition)

    async def _restarts(self, process: Process, spec: LaneSpec, partition: int) -> None:
        """Stop it cleanly now and then: whoever comes after a clean stop repeats nothing. A dead one is replaced."""
        loop = asyncio.get_running_loop()
        if self.plan.crash_at is not None:
            while loop.time() < self.plan.trouble_s:
                await asyncio.sleep(1.0)
                if not process.is_running:
                    process = self._start(spec, partition)
            return
        for _ in range(RESTARTS):
            await asyncio.sleep(self.rng.random() * self.plan.trouble_s / RESTARTS)
            await process.stopped()
            process = self._start(spec, partition)

    async def _interfere(self, process: Process, owners: int, spec: LaneSpec, partition: int) -> None:
        kind = self.rng.choice(("second owner", "second owner", "crash", "crash soon", "stop", "stall", "new policy"))
        if kind == "second owner" and owners >= OWNERS_MAX:
            kind = "stall"
        self._count(kind)
        if kind == "second owner":
            self._start(spec, partition)
        elif kind == "crash":
            await process.crashed()
        elif kind == "crash soon":
            process.port.crash_at = (process.port.calls + self.rng.randint(1, 12), self.rng.random() < 0.5)
        elif kind == "stop":
            process.stop.set()
        elif kind == "stall":
            until_s = asyncio.get_running_loop().time() + self.rng.choice((2.0, 30.0, 200.0))
            process.port.stalled_until_s = max(until_s, process.port.stalled_until_s)
        else:
            process.book.exchange(setting.policies(self._policies()))

    def _policies(self) -> int:
        """Which policies a process has: all the same, or each its own."""
        if not self.plan.mixed or self.plan.calm:
            return self.plan.policy
        return self.rng.randrange(HOURS_POLICY + 1 if self.plan.policy == HOURS_POLICY else HOURS_POLICY)

    async def _settle(self, spec: LaneSpec, partition: int) -> None:
        """Leave one owner, now and then two, or start one; what had been asked to stop is not counted on."""
        running = [process for process in self._running(spec, partition) if not process.stop.is_set()]
        for process in running:
            process.port.crash_at = None
        self.rng.shuffle(running)
        keep = 1 if self.plan.calm else self.rng.choice((0, 1, 2, 2))
        for process in running[keep:]:
            await process.crashed()
        self.survivors += running[:keep] or [self._start(spec, partition)]
        for process in running[:keep]:  # two that never agree on the agents would tell each other so for ever
            process.book.exchange(setting.policies(self.plan.policy))

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1

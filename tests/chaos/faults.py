"""The faults, each with a name. One does its harm, waits for what has to be seen, and mends what it broke.

``injected`` counts; ``Recovery`` says when the partitions that it touched assign again. Faults of workers, of brokers
and of the network run beside each other, one of each at a time.
"""

from __future__ import annotations

import abc
import asyncio
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import ClassVar, Final, Protocol

from tests.brokers.proxy import PRODUCE, Kind, Proxy
from tests.chaos.field import Field
from tests.chaos.tally import Recovery

DISK_TIMEOUT_S: Final = 30.0  #: for a broker to notice that it cannot write
LATENCY_MS: Final = 150
STORM_MEMBERS_MAX: Final = 2


class Fault(Protocol):
    """Something that goes wrong."""

    name: ClassVar[str]

    async def run(self, field: Field) -> None:
        """Do it, and undo it."""


class _Fault(abc.ABC):
    name: ClassVar[str]

    @abc.abstractmethod
    async def run(self, field: Field) -> None:
        """Do it, and undo it."""

    async def recovered(self, recovery: Recovery, field: Field) -> None:
        """Wait until the partitions assign again, but not for long: that all recover is judged at the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(recovery.done.wait(), field.pace.patience_s)

    async def soon(self, recovery: Recovery, field: Field) -> None:
        """Wait less long: what happens to the network costs the machine nothing, so more of it fits."""
        with suppress(TimeoutError):
            await asyncio.wait_for(recovery.done.wait(), field.pace.patience_s / 4)


# --- workers ---


class WorkerKilled(_Fault):
    """kill -9; a supervisor starts another one, at once or after the others have taken over."""

    name = "worker killed"

    async def run(self, field: Field) -> None:
        worker = await field.worker()
        if worker is None:
            return
        recovery = field.begin(self.name, worker.places())
        worker.kill()
        if field.rng.random() < 0.5:
            field.workers.start(worker.kind)
            await self.recovered(recovery, field)
        else:
            await self.recovered(recovery, field)
            field.workers.start(worker.kind)


class WorkerFrozen(_Fault):
    """Stopped past its session, and then it goes on as if nothing had been: a zombie."""

    name = "worker frozen"

    async def run(self, field: Field) -> None:
        worker = await field.worker()
        if worker is None:
            return
        recovery = field.begin(self.name, worker.places())
        worker.frozen = True
        worker.send(signal.SIGSTOP)
        try:
            await self.recovered(recovery, field)
        finally:
            worker.send(signal.SIGCONT)
            worker.frozen = False


class WorkersRestarted(_Fault):
    """A rolling upgrade: each worker is asked to end and replaced, one after the other."""

    name = "workers restarted"

    async def run(self, field: Field) -> None:
        for worker in field.workers.alive():
            if not worker.is_alive:  # it has ended meanwhile, and was replaced
                continue
            recovery = field.begin(self.name, worker.places())
            await field.workers.stop(worker)
            started = field.workers.start(worker.kind)
            await self.recovered(recovery, field)
            await field.until(lambda started=started: started.is_ready or not started.is_alive)  # type: ignore[misc]


class RebalanceStorm(_Fault):
    """Every second a member joins the groups or leaves them. Members do their work while they are there."""

    name = "rebalance storm"

    async def run(self, field: Field) -> None:
        recovery = field.begin(self.name, field.all_places())
        try:
            for _ in range(field.pace.storm_s):
                members = field.members
                if not members or (len(members) < STORM_MEMBERS_MAX and field.rng.random() < 0.5):
                    field.join()
                else:
                    field.leave()
                await asyncio.sleep(1.0)
        finally:
            while field.members:
                field.leave()
        await self.recovered(recovery, field)


# --- brokers ---


class BrokerKilled(_Fault):
    """kill -9, and started again once the others have taken over."""

    name = "broker killed"

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        node.kill()
        try:
            await self.recovered(recovery, field)
        finally:
            node.restart()
        await field.arena.whole()


class BrokerFrozen(_Fault):
    """Stopped: its connections stay open and answer nothing."""

    name = "broker frozen"

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        node.pause()
        try:
            await self.recovered(recovery, field)
        finally:
            node.resume()
        await field.arena.whole()


class BrokersRestarted(_Fault):
    """One broker after the other goes and comes back: every leader changes."""

    name = "brokers restarted"

    async def run(self, field: Field) -> None:
        for node in field.arena.cluster:
            recovery = field.begin(self.name, await field.led_by(node))
            node.restart()
            await field.arena.whole()
            await self.recovered(recovery, field)


class BrokersDown(_Fault):
    """All brokers are killed, and stay away for a while."""

    name = "all brokers down"

    async def run(self, field: Field) -> None:
        recovery = field.begin(self.name, field.all_places())
        for node in field.arena.cluster:
            node.kill()
        try:
            await asyncio.sleep(field.pace.outage_s)
        finally:
            for node in field.arena.cluster:
                node.restart()
        await field.arena.whole()
        await self.recovered(recovery, field)


class DiskFull(_Fault):
    """A broker's log directory is full: it gives up, and comes back when there is room."""

    name = "log directory full"

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        field.arena.fill_disk(node)
        try:
            if not await field.arena.dead(node, timeout_s=DISK_TIMEOUT_S):
                field.tally.counts["full disks that a broker bore"] += 1
            await self.recovered(recovery, field)
        finally:
            field.arena.empty_disk(node)
            node.restart()
        await field.arena.whole()


# --- network ---


class _FrameLost(_Fault):
    kind: ClassVar[Kind]

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        proxy = field.arena.proxies[node.id]
        wanted = len(proxy.lost) + 1
        proxy.lose(self.kind, PRODUCE, times=field.rng.randint(1, 3))
        await field.until(lambda: len(proxy.lost) >= wanted)
        await self.soon(recovery, field)


class AcknowledgementLost(_FrameLost):
    """The connection is cut between an append and its acknowledgement: it was written, and nobody knows."""

    name = "acknowledgement lost"
    kind = Kind.RESPONSE


class AppendLost(_FrameLost):
    """The connection is cut before an append reaches the broker: it was not written, and nobody knows."""

    name = "append lost"
    kind = Kind.REQUEST


class ConnectionsCut(_Fault):
    """All connections to a broker are reset at once."""

    name = "connections cut"

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        await asyncio.to_thread(field.arena.proxies[node.id].cut)
        await self.soon(recovery, field)


class Latency(_Fault):
    """Every frame to and from every broker takes longer."""

    name = "latency"

    async def run(self, field: Field) -> None:
        recovery = field.begin(self.name, field.all_places())
        _delay(field.arena.proxies.values(), LATENCY_MS)
        try:
            await asyncio.sleep(field.pace.latency_s)
        finally:
            _delay(field.arena.proxies.values(), 0)
        await self.soon(recovery, field)


class Silence(_Fault):
    """A broker's clients and the broker hear nothing of each other, and the connections stay."""

    name = "silence"

    async def run(self, field: Field) -> None:
        node, led = await field.leader()
        recovery = field.begin(self.name, led)
        proxy = field.arena.proxies[node.id]
        proxy.silent = True
        try:
            await asyncio.sleep(field.pace.silence_s)
        finally:
            proxy.silent = False
        await asyncio.to_thread(proxy.cut)  # half of what was said is missing: nobody could go on with it
        await self.soon(recovery, field)


def _delay(proxies: Iterable[Proxy], latency_ms: int) -> None:
    for proxy in proxies:
        proxy.latency_ms = latency_ms


STREAMS: Final[tuple[tuple[type[Fault], ...], ...]] = (
    (WorkerKilled, WorkerFrozen, WorkersRestarted, RebalanceStorm),
    (BrokerKilled, BrokerFrozen, BrokersRestarted, BrokersDown, DiskFull),
    (AcknowledgementLost, AppendLost, ConnectionsCut, Latency, Silence),
)
#: how often each comes; the long ones less
WEIGHTS: Final = {"all brokers down": 1, "brokers restarted": 2, "workers restarted": 2, "log directory full": 2}
WEIGHT: Final = 5
NAMES: Final = tuple(fault.name for stream in STREAMS for fault in stream)

"""What faults act on: brokers, workers, members of a storm, and who is touched by what."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from consumers.serve import serve
from consumers.settings import ServeSettings
from events.log import LogUnavailableError
from events.topics import ASSIGNMENTS_LOG, ROUTING_LOG
from tests.brokers.node import Node
from tests.chaos.arena import Arena
from tests.chaos.load import CONTACTS, WORKSPACES
from tests.chaos.setting import Pace
from tests.chaos.tally import Place, Recovery, Tally
from tests.chaos.workers import Worker, Workers

POLL_S: Final = 0.02
UNTIL_TIMEOUT_S: Final = 60.0
ROLE_OF: Final = {ROUTING_LOG: "router", ASSIGNMENTS_LOG: "assigner"}


@dataclass
class Member:
    """A ``serve`` in this process: it costs no start, so that one can come and go every second."""

    stop: asyncio.Event
    task: asyncio.Task[object]


@dataclass
class Field:
    """One run's machines."""

    arena: Arena
    workers: Workers
    tally: Tally
    pace: Pace
    rng: Random
    serving: ServeSettings  #: of the members of storms
    prefix: str
    members: list[Member] = field(default_factory=list)
    left: list[asyncio.Task[object]] = field(default_factory=list)

    def begin(self, kind: str, places: Iterable[Place]) -> Recovery:
        """A fault begins: count it, and time it until these partitions assign again."""
        self.tally.faults[kind] += 1
        self.tally.tell(kind)
        return self.tally.begin(kind, places)

    def all_places(self) -> set[Place]:
        """Every partition of the lanes."""
        routers = {Place("router", number) for number in range(CONTACTS)}
        return routers | {Place("assigner", number) for number in range(WORKSPACES)}

    async def leader(self) -> tuple[Node, set[Place]]:
        """A broker that leads some lanes' logs, and these; any broker where none does."""
        leaders = await self._leaders()
        node_id = self.rng.choice(sorted(leaders) or [node.id for node in self.arena.cluster])
        return self.arena.cluster[node_id], leaders.get(node_id, set())

    async def worker(self) -> Worker | None:
        """Any worker that works on something; waits for one, but not for ever."""
        await self.until(lambda: self.workers.is_working)
        return self.workers.pick()

    async def led_by(self, node: Node) -> set[Place]:
        """The lanes whose log's partition this broker leads."""
        return (await self._leaders()).get(node.id, set())

    async def _leaders(self) -> dict[int, set[Place]]:
        found: dict[int, set[Place]] = {}
        leaders = await self.arena.leaders({self.prefix + topic for topic in ROLE_OF})
        for (topic, number), leader in leaders.items():
            if leader >= 0:  # there is one
                found.setdefault(leader, set()).add(Place(ROLE_OF[topic.removeprefix(self.prefix)], number))
        return found

    async def until(self, holds: Callable[[], bool], *, timeout_s: float = UNTIL_TIMEOUT_S) -> bool:
        """Wait until something holds; whether it did in time."""
        give_up_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > give_up_s:
                return False
            await asyncio.sleep(POLL_S)
        return True

    def join(self) -> None:
        """One more member."""
        stop = asyncio.Event()
        self.members.append(Member(stop, asyncio.create_task(serve(self.serving, stop, tell=lambda _: None))))

    def leave(self) -> None:
        """The oldest member goes."""
        member = self.members.pop(0)
        member.stop.set()
        self.left.append(member.task)

    async def all_left(self) -> None:
        """Wait for the end of those that have left; what they ended with is judged like a worker's end."""
        for task in self.left:
            try:
                await task
            except LogUnavailableError:
                self.tally.counts["serve ended with 3"] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is ours
                self.tally.violated("alive", f"a serve in a storm ended with {error!r}")
        self.left.clear()

"""The ``serve`` processes: started, hurt, and started anew like a supervisor does it.

A worker says on stderr which partitions it works on; that is what a fault of it touches. One that ends by itself is
started again, and what it ended with is judged: a log that cannot be reached is a reason, all else is a broken promise.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from tests.chaos.tally import Place, Tally
from tests.processes import Running

OWNS: Final = re.compile(r"(router|crm|assigner): works on partitions \[([0-9, ]*)\]")
UNREACHABLE: Final = 3  #: the exit code that says so
TAIL_LINES: Final = 12
END_TIMEOUT_S: Final = 180.0
POLL_S: Final = 0.05


class Kind(NamedTuple):
    """What a worker does, and whether the brokers know it by name: a static member of its groups."""

    name: str
    roles: str
    is_static: bool = False


ALL: Final = "router,crm,assigner"
#: the workers of a run; runs take turns
KINDS: Final = (
    (Kind("one", ALL), Kind("two", ALL, is_static=True), Kind("three", ALL)),
    (Kind("one", ALL), Kind("two", "router,crm"), Kind("three", "router,assigner"), Kind("four", "crm,assigner")),
)


class Worker:
    """One process."""

    def __init__(self, kind: Kind, running: Running) -> None:
        self.kind = kind
        self.running = running
        self.frozen = False
        self.asked = False  #: to end

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self.running.process.poll() is None

    @property
    def is_ready(self) -> bool:
        """Whether it has said that it reads."""
        return self.running.says("ready")

    def places(self) -> set[Place]:
        """The partitions that it has said last that it works on."""
        owned: dict[str, str] = {}
        for line in list(self.running.lines["err"]):
            if (found := OWNS.search(line)) is not None:
                owned[found[1]] = found[2]
        return {Place(role, int(number)) for role, numbers in owned.items() for number in numbers.split(",") if number}

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.is_alive:
            self.running.send(number)

    def kill(self) -> None:
        """SIGKILL, frozen or not."""
        self.asked = True
        self.send(signal.SIGKILL)

    def close(self) -> None:
        """End it, whatever it does."""
        self.asked = True
        self.running.__exit__()


class Workers:
    """All processes of one run."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path, rng: Random, tally: Tally
    ) -> None:
        self.all: list[Worker] = []
        self._arguments = arguments
        self._environment = dict(environment)
        self._folder = folder
        self._rng = rng
        self._tally = tally

    def start(self, kind: Kind) -> Worker:
        """Start a process; call it from the main thread, it ends with that."""
        environment = dict(self._environment)
        if kind.is_static:
            environment["VIP_ROUTER_KAFKA_INSTANCE_ID"] = kind.name
        arguments = ["serve", *self._arguments, "--roles", kind.roles, "--log-level", "info"]
        running = Running(*arguments, cwd=self._folder, env=environment, module="tests.chaos.worker")
        worker = Worker(kind, running)
        self.all.append(worker)
        return worker

    def alive(self) -> list[Worker]:
        """Those that run now."""
        return [worker for worker in self.all if worker.is_alive and not worker.frozen and not worker.asked]

    @property
    def is_working(self) -> bool:
        """Whether anybody works on something."""
        return any(worker.places() for worker in self.alive())

    def pick(self) -> Worker | None:
        """One that works on something, if there is any."""
        working = [worker for worker in self.alive() if worker.places()]
        return self._rng.choice(working) if working else None

    async def keep_alive(self) -> None:
        """Replace whatever ends by itself, until cancelled."""
        while True:
            for worker in list(self.all):
                if not worker.is_alive and not worker.asked:
                    self._ended(worker)
                    self.start(worker.kind)
            await asyncio.sleep(POLL_S)

    async def ended(self, worker: Worker) -> int:
        """Wait for the end of a process; its exit code."""
        give_up_s = time.monotonic() + END_TIMEOUT_S
        while worker.is_alive:
            if time.monotonic() > give_up_s:
                worker.kill()
                self._tally.violated("alive", f"serve {worker.kind.name} does not end: {_tail(worker)}")
            await asyncio.sleep(POLL_S)
        return worker.running.process.returncode or 0

    async def stop(self, worker: Worker) -> None:
        """Ask it to end, and see that it ends cleanly."""
        worker.asked = True
        worker.send(signal.SIGTERM)
        code = await self.ended(worker)
        if code != 0 and worker.running.says("ready"):
            self._judge_end(worker, code)

    def close(self) -> None:
        """Kill all."""
        for worker in self.all:
            worker.close()

    def keep_logs(self, folder: Path) -> None:
        """Write what each process has said."""
        for number, worker in enumerate(self.all):
            text = "\n".join(worker.running.lines["err"])
            (folder / f"{time.strftime('%H%M%S')}-{number}-{worker.kind.name}.log").write_text(text, encoding="utf-8")

    def _ended(self, worker: Worker) -> None:
        worker.asked = True
        self._judge_end(worker, worker.running.process.returncode or 0)

    def _judge_end(self, worker: Worker, code: int) -> None:
        self._tally.counts[f"serve ended with {code}"] += 1
        self._tally.tell(
            f"serve {worker.kind.name} ended with {code}: {''.join(worker.running.lines['err'][-1:])}"[:300]
        )
        if code != UNREACHABLE:
            self._tally.violated("alive", f"serve {worker.kind.name} ended with {code}: {_tail(worker)}")


def _tail(worker: Worker) -> str:
    return " | ".join(worker.running.lines["err"][-TAIL_LINES:])

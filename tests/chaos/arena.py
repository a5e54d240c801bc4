"""The brokers that everything here happens to: three real ones, each behind a proxy, each with a disk that can be full.

Brokers are started and killed from the main thread (``tests/brokers/process.py`` says why); what only asks is done in
other threads, so that loads and watchers go on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Final

from tests.brokers import probe
from tests.brokers.cluster import ASK_TIMEOUT_S, Cluster
from tests.brokers.container import DATA, ContainerNode
from tests.brokers.node import Extra, Node
from tests.brokers.process import ProcessNode
from tests.brokers.proxy import Proxy

BROKERS: Final = 3
DISK_BYTES: Final = 512 * 1024 * 1024  #: of a log directory in memory; Kafka's own needs are far below
FILLER: Final = "filler"
BLOCK_BYTES: Final = 1024 * 1024
CONFIG: Final = {
    "leader.imbalance.check.interval.seconds": "5",  # leaders go home soon: more changes of leader
    "log.index.size.max.bytes": "65536",  # what a broker makes for each partition, and looks at after each kill
    "log.segment.delete.delay.ms": "1000",
    "log.retention.check.interval.ms": "3600000",
}


class Arena:
    """A cluster, its proxies by broker id, and whether the brokers' disks are file systems of their own."""

    def __init__(self, cluster: Cluster, proxies: dict[int, Proxy], *, has_disks: bool) -> None:
        self.cluster = cluster
        self.proxies = proxies
        self.has_disks = has_disks

    async def whole(self) -> None:
        """Wait until every broker answers and has all its replicas in sync."""
        await asyncio.to_thread(self.cluster.wait_ready)

    async def leaders(self, names: set[str]) -> dict[tuple[str, int], int]:
        """Which broker leads each partition of these topics, as the first broker that answers has it."""
        while True:
            for node in self.cluster:
                with contextlib.suppress(OSError):
                    seen = await asyncio.to_thread(probe.metadata, node.address, timeout_s=ASK_TIMEOUT_S)
                    return {(part.topic, part.number): part.leader for part in seen.partitions if part.topic in names}
            await asyncio.sleep(0.05)

    async def dead(self, node: Node, *, timeout_s: float) -> bool:
        """Wait until a broker has ended by itself; whether it did in time."""
        give_up_s = time.monotonic() + timeout_s
        while node.alive():
            if time.monotonic() > give_up_s:
                return False
            await asyncio.sleep(0.05)
        return True

    def fill_disk(self, node: Node) -> None:
        """From now on the broker cannot write to its log directory."""
        if isinstance(node, ContainerNode):
            node._container.exec_run(["dd", "if=/dev/zero", f"of={DATA}/{FILLER}", "bs=65536"])
        elif isinstance(node, ProcessNode) and self.has_disks:
            _fill(node.data / FILLER)
        elif isinstance(node, ProcessNode):  # no rights to mount: no file of the process may grow any more
            _, hard = resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (0, hard))

    def empty_disk(self, node: Node) -> None:
        """Undo ``fill_disk``; a container's disk and a process' limit end with the broker itself."""
        if isinstance(node, ProcessNode):
            (node.data / FILLER).unlink(missing_ok=True)


def _fill(path: Path) -> None:
    block = bytes(BLOCK_BYTES)
    with path.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(block)
    with path.open("ab", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(b"\0")


@contextmanager
def arena(brokers: Callable[[int, Extra], AbstractContextManager[Cluster]], backend: str) -> Iterator[Arena]:
    """Brokers made by ``brokers``, of this backend, behind proxies: clients are told the proxies' addresses."""
    has_disks = backend == "containers" or _can_mount()
    with ExitStack() as stack:
        proxies = {node_id: stack.enter_context(Proxy()) for node_id in range(1, BROKERS + 1)}
        extra = Extra(
            config=CONFIG,
            advertised={node_id: proxy.address for node_id, proxy in proxies.items()},
            log_bytes_max=DISK_BYTES if has_disks else None,
        )
        cluster = stack.enter_context(brokers(BROKERS, extra))
        for node_id, proxy in proxies.items():
            proxy.target = cluster[node_id].address
        yield Arena(cluster, proxies, has_disks=has_disks)


def _can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix="vip-router-mount-") as folder:
        trial = ["mount", "-t", "tmpfs", "-o", "size=65536", "tmpfs", folder]
        if subprocess.run(trial, capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", folder], check=True, capture_output=True)
    return True

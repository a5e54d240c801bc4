"""A real Apache Kafka for tests: one broker or three, in containers or as processes, behind one interface.

``with Cluster(3) as kafka:`` gives ``kafka.bootstrap`` and ``kafka[1].kill() / pause() / resume() / restart()``.
Everything blocks and needs no event loop. Which backend runs is `backends.py`'s choice.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from tests.brokers import container, probe, process
from tests.brokers.node import CLIENT, CLUSTER_ID, Extra, Node, State

READY_TIMEOUT_S = 90.0
ASK_TIMEOUT_S = 2.0
POLL_S = 0.05
LOG_SHOWN_CHARS = 4000


class BrokerError(AssertionError):
    """A broker that should run does not; the message ends with its log."""


class Cluster:
    """``n`` brokers, ids from 1; see `Extra` for what they can have beyond the usual.

    With an authorizer, make the tests' own listener and the brokers the super user:
    ``config={"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS"}``, and let the roles come in by a listener of ``listeners``.
    """

    def __init__(self, n: int, extra: Extra | None = None, *, backend: str) -> None:
        self.n = n
        self.extra = extra or Extra()
        self.backend = backend
        self.nodes: list[Node] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.nodes = self._make(stack)
            for node in self.nodes:
                stack.callback(node.stop)
            for node in self.nodes:
                node.start(self.nodes)
            wait_ready(self.nodes)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __getitem__(self, node_id: int) -> Node:
        return self.nodes[node_id - 1]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def bootstrap(self) -> str:
        """``host:port,host:port`` of the plaintext listener; the proxies' where there are some."""
        return self.bootstrap_of(CLIENT)

    def bootstrap_of(self, listener: str) -> str:
        """``host:port,host:port`` of another listener."""
        return ",".join(node.address_of(listener) for node in self.nodes)

    def wait_ready(self, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until every broker answers, sees all others and has all replicas in sync."""
        wait_ready(self.nodes, timeout_s=timeout_s)

    def heal(self) -> None:
        """Resume what is paused, start what is dead, and wait until the cluster is whole. Costs a question if it is."""
        hurt = [node for node in self.nodes if node.state is not State.RUNNING or not node.alive()]
        for node in hurt:
            if node.state is State.PAUSED and node.alive():
                node.resume()
            else:
                node.restart()
        self.wait_ready()  # also for a broker that a test has restarted, and not waited for

    def _make(self, stack: contextlib.ExitStack) -> list[Node]:
        ids = range(1, self.n + 1)
        if self.backend == "processes":
            process.warm(lambda node: wait_ready([node]))
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vip-router-kafka-")))
            return [process.ProcessNode(node_id, self.extra, home) for node_id in ids]
        if self.backend == "containers":
            shared = stack.enter_context(container.network())
            return [container.ContainerNode(node_id, self.extra, shared) for node_id in ids]
        raise ValueError(f"backend {self.backend!r}: say containers or processes")


def wait_ready(nodes: Sequence[Node], *, timeout_s: float = READY_TIMEOUT_S) -> None:
    """Wait until each of these brokers answers and sees them all, every replica in sync.

    Raises `BrokerError` with the log of the first that does not, at once where it has died.
    """
    give_up_s = time.monotonic() + timeout_s
    wanted = {node.id for node in nodes}
    for node in nodes:
        while not _sees(node, wanted):
            if not node.alive() or time.monotonic() > give_up_s:
                why = f"is not ready within {timeout_s} s" if node.alive() else "has died"
                raise BrokerError(f"broker {node.id} {why}; its log ends:\n{node.logs()[-LOG_SHOWN_CHARS:]}")
            time.sleep(POLL_S)


def _sees(node: Node, wanted: set[int]) -> bool:
    try:
        seen = probe.metadata(node.address, timeout_s=ASK_TIMEOUT_S)
    except OSError:
        return False
    return seen.cluster_id == CLUSTER_ID and wanted <= seen.brokers and seen.whole

"""One broker, whatever it runs on: its addresses, its configuration, and what can be done to it.

How it is started and hurt is said by `ProcessNode` and `ContainerNode`; the cluster starts and stops them.
"""

from __future__ import annotations

import abc
import contextlib
import random
import socket
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

CLUSTER_ID: Final = "dmlwLXJvdXRlci10ZXN0cw"  # 16 bytes in URL-safe base64, as Kafka wants it
CLIENT, INTERNAL, CONTROLLER = "CLIENT", "INTERNAL", "CONTROLLER"
HEAP_OPTIONS: Final = "-Xms64m -Xmx256m"
JVM_OPTIONS: Final = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"  # quick to start, one thread for the garbage
PORTS = range(20_000, 32_000)  # below the ephemeral range: nobody takes one while its broker is down
DEFAULTS: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "inter.broker.listener.name": INTERNAL,
    "controller.listener.names": CONTROLLER,
    "auto.create.topics.enable": "false",
    "unclean.leader.election.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "100",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",  # a dead or hung broker loses its partitions after 3 s, not 9
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "log.cleaner.dedupe.buffer.size": "2097152",  # 128 MiB of heap by default
    "num.io.threads": "2",
    "num.network.threads": "2",
}


class State(StrEnum):
    """What was last done to a broker."""

    RUNNING = "running"
    PAUSED = "paused"
    KILLED = "killed"


class Extra(NamedTuple):
    """What a cluster has beyond the usual."""

    config: Mapping[str, str] = {}  #: broker settings; they win over ours
    listeners: Mapping[str, str] = {}  #: more loopback listeners for clients: name -> protocol, e.g. SASL_SSL
    advertised: Mapping[int, str] = {}  #: broker id -> host:port that it tells clients: a proxy's
    files: str = ""  #: a folder of ours that the broker reads under the same path (key stores)
    log_bytes_max: int | None = None  #: the log directory is a file system in memory of this size


class Node(abc.ABC):
    """One broker that is its own controller, too. All methods block; call them from the main thread."""

    def __init__(self, node_id: int, bind: str, host: str, ports: Mapping[str, int], extra: Extra) -> None:
        self.id = node_id
        self.bind = bind
        self.host = host  #: where the other brokers find it
        self.ports = ports  #: by listener, as bound
        self.extra = extra
        self.state = State.KILLED

    @abc.abstractmethod
    def client_port(self, listener: str) -> int:
        """The loopback port on which clients reach a listener."""

    @abc.abstractmethod
    def start(self, nodes: Sequence[Node]) -> None:
        """Start it for the first time, on an empty disk; does not wait until it is ready."""

    @abc.abstractmethod
    def kill(self) -> None:
        """Kill it with SIGKILL; its disk stays."""

    @abc.abstractmethod
    def pause(self) -> None:
        """Freeze it; connections stay open and answer nothing."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Let it run on after `pause`."""

    @abc.abstractmethod
    def restart(self) -> None:
        """Kill it where it lives, then start it on the disk that it has; does not wait until it is ready."""

    @abc.abstractmethod
    def stop(self) -> None:
        """End it for good; may be called twice."""

    @abc.abstractmethod
    def alive(self) -> bool:
        """Whether its process exists, paused or not."""

    @abc.abstractmethod
    def logs(self) -> str:
        """All that it printed."""

    @property
    def address(self) -> str:
        """Its own plaintext listener, never a proxy's."""
        return f"127.0.0.1:{self.client_port(CLIENT)}"

    def address_of(self, listener: str) -> str:
        """What it tells clients of this listener: the proxy's address on ``CLIENT`` where there is one."""
        if listener == CLIENT and self.id in self.extra.advertised:
            return self.extra.advertised[self.id]
        return f"127.0.0.1:{self.client_port(listener)}"

    def config(self, nodes: Sequence[Node]) -> dict[str, str]:
        """The broker's settings, its log directory aside."""
        listeners = [*client_listeners(self.extra), INTERNAL, CONTROLLER]
        protocols = {**dict.fromkeys(listeners, "PLAINTEXT"), **self.extra.listeners}
        told = [f"{name}://{self.address_of(name)}" for name in client_listeners(self.extra)]
        return {
            **DEFAULTS,
            **replication(len(nodes)),
            "node.id": str(self.id),
            "controller.quorum.voters": ",".join(f"{n.id}@{n.host}:{n.ports[CONTROLLER]}" for n in nodes),
            "listeners": ",".join(f"{name}://{self.bind}:{self.ports[name]}" for name in listeners),
            "advertised.listeners": ",".join([*told, f"{INTERNAL}://{self.host}:{self.ports[INTERNAL]}"]),
            "listener.security.protocol.map": ",".join(f"{name}:{protocols[name]}" for name in listeners),
            **{name: one_line(value) for name, value in self.extra.config.items()},
        }


def client_listeners(extra: Extra) -> list[str]:
    """The names of the listeners that clients reach on loopback."""
    return [CLIENT, *extra.listeners]


def one_line(value: str) -> str:
    """A setting as it stands in a properties file: a PEM key's line ends are written as escapes."""
    return value.replace("\n", "\\n")


def replication(nodes_n: int) -> dict[str, str]:
    """Three copies, two of them in sync, where there are three brokers."""
    copies = min(3, nodes_n)
    in_sync = str(max(1, copies - 1))
    return {
        "default.replication.factor": str(copies),
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": str(copies),
        "transaction.state.log.replication.factor": str(copies),
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": str(copies),
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def free_port() -> int:
    """A loopback port that nobody listens on."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as trial, contextlib.suppress(OSError):
            trial.bind(("127.0.0.1", port))
            return port

"""Brokers as containers of the official ``apache/kafka`` image, through testcontainers.

testcontainers' own Kafka module is for another vendor's image, so this uses its plain container. Its reaper is an
image more to pull: what a killed run leaves behind is removed by label when the next one starts.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import docker  # type: ignore[import-untyped]
from docker import DockerClient
from docker.errors import (  # type: ignore[import-untyped]
    APIError,
    DockerException,
    ImageNotFound,
    NotFound,
)
from requests.exceptions import RequestException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network

from tests.brokers import dist, stand_in
from tests.brokers.node import (
    CLIENT,
    CLUSTER_ID,
    CONTROLLER,
    HEAP_OPTIONS,
    INTERNAL,
    JVM_OPTIONS,
    Extra,
    Node,
    State,
    client_listeners,
    free_port,
)

IMAGE = f"apache/kafka:{dist.VERSION}"
LABEL = "vip-router.tests.owner"  #: host:pid of the run that made a container or a network
STAND_IN_LABEL = "vip-router.tests.stand-in"
DEFAULT_HOST = "unix:///var/run/docker.sock"
ASK_TIMEOUT_S = 60
DATA = "/tmp/kafka-logs"
INSIDE = {CLIENT: 9092, INTERNAL: 9093, CONTROLLER: 9094}
MORE_INSIDE = 9095  # the first port of further listeners

testcontainers_config.ryuk_disabled = True


class ContainerNode(Node):
    """A broker as a container; its disk lives as long as the container."""

    def __init__(self, node_id: int, extra: Extra, network: Network) -> None:
        inside = {**INSIDE, **{name: MORE_INSIDE + at for at, name in enumerate(extra.listeners)}}
        super().__init__(node_id, "0.0.0.0", f"kafka{node_id}", inside, extra)
        # fixed: a port that the engine chooses changes with every restart
        self._outside = {name: free_port() for name in client_listeners(extra)}
        self._box = DockerContainer(IMAGE, network=network, network_aliases=[self.host], labels={LABEL: owner()})

    def client_port(self, listener: str) -> int:
        return self._outside[listener]

    def start(self, nodes: Sequence[Node]) -> None:
        box = self._box
        box.env = variables({"log.dirs": DATA, **self.config(nodes)})
        bound = {f"{self.ports[name]}/tcp": ("127.0.0.1", port) for name, port in self._outside.items()}
        box.ports.update(bound)  # type: ignore[arg-type]  # docker takes host and port, testcontainers' type a port
        if self.extra.files:
            box.with_volume_mapping(self.extra.files, self.extra.files, "ro")
        if self.extra.log_bytes_max is not None:
            box.tmpfs[DATA] = f"size={self.extra.log_bytes_max},mode=1777"
        box.start()
        self.state = State.RUNNING

    def kill(self) -> None:
        self._let_run()
        with contextlib.suppress(APIError):  # it has died already: a conflict
            self._container.kill("SIGKILL")
        self._container.wait()
        self.state = State.KILLED

    def pause(self) -> None:
        self._container.pause()
        self.state = State.PAUSED

    def resume(self) -> None:
        self._let_run()
        self.state = State.RUNNING

    def restart(self) -> None:
        self.kill()
        self._container.start()
        self.state = State.RUNNING

    def stop(self) -> None:
        self._box.stop(force=True, delete_volume=True)
        self._box.get_docker_client().client.close()

    def alive(self) -> bool:
        self._container.reload()
        return self._container.status in {"running", "paused"}

    def logs(self) -> str:
        return b"".join(self._box.get_logs()).decode(errors="replace")

    @property
    def _container(self) -> Any:  # docker has no types
        return self._box.get_wrapped_container()

    def _let_run(self) -> None:
        if self.state is State.PAUSED:
            self._container.unpause()


def variables(config: dict[str, str]) -> dict[str, str]:
    """Broker settings as the image's environment: ``_`` is doubled, ``-`` tripled, a dot becomes ``_``."""
    named = {
        "KAFKA_" + name.replace("_", "__").replace("-", "___").replace(".", "_").upper(): value
        for name, value in config.items()
    }
    jvm = {"KAFKA_HEAP_OPTS": HEAP_OPTIONS, "KAFKA_JVM_PERFORMANCE_OPTS": JVM_OPTIONS}
    return {**named, **jvm, "CLUSTER_ID": CLUSTER_ID}


def prepare() -> str:
    """See that the image is in the engine: as it is, pulled, or built; says in words which.

    Raises `BrokersUnavailableError` where no engine of this machine answers or the image cannot be had.
    """
    with engine() as client:
        sweep(client)
        if not _has_image(client) and not _pull(client):
            with dist.alone("image"):
                if not _has_image(client):
                    stand_in.build(client, IMAGE)
        labels = client.images.get(IMAGE).labels
    kind = "a stand-in built here from Debian and Maven packages" if STAND_IN_LABEL in labels else "the official image"
    return f"containers of {IMAGE}, {kind}"


@contextlib.contextmanager
def engine() -> Iterator[DockerClient]:
    """A client of this machine's Docker engine; raises `BrokersUnavailableError` where none answers."""
    host = os.environ.get("DOCKER_HOST") or DEFAULT_HOST
    if not host.startswith("unix://"):
        raise dist.BrokersUnavailableError(f"the Docker engine is not on this machine (DOCKER_HOST={host})")
    try:
        with socket.socket(socket.AF_UNIX) as trial:  # docker's own client leaves a socket open where nobody answers
            trial.connect(host.removeprefix("unix://"))
        client = docker.from_env(timeout=ASK_TIMEOUT_S)
    except (OSError, DockerException) as error:
        raise dist.BrokersUnavailableError(f"no Docker engine answers at {host} ({error})") from error
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """A network of its own for one cluster."""
    made = Network(docker_network_kw={"labels": {LABEL: owner()}})
    with contextlib.closing(made._docker.client), made:
        yield made


def owner() -> str:
    """This run, as the label of what it makes."""
    return f"{socket.gethostname()}:{os.getpid()}"


def sweep(client: DockerClient) -> None:
    """Remove what runs that no longer live have left in the engine."""
    for container in client.containers.list(all=True, filters={"label": LABEL}):
        if _orphaned(container.labels[LABEL]):
            with contextlib.suppress(NotFound, APIError):
                container.remove(force=True, v=True)
    for made in client.networks.list(filters={"label": LABEL}):
        if _orphaned(made.attrs["Labels"][LABEL]):
            with contextlib.suppress(NotFound, APIError):
                made.remove()


def _orphaned(label: str) -> bool:
    host, _, pid = label.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _has_image(client: DockerClient) -> bool:
    try:
        client.images.get(IMAGE)
    except ImageNotFound:
        return False
    return True


def _pull(client: DockerClient) -> bool:
    try:
        client.images.pull(IMAGE)
    except (APIError, RequestException):
        return False
    return True

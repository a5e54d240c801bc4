"""Brokers as plain JVM processes: for machines without a Docker engine.

A process dies with the tests, whatever ends them, where util-linux' ``setpriv`` is there (every Linux).
The first start on a machine formats a disk and keeps an archive of classes that halves every later start.
"""

from __future__ import annotations

import base64
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.brokers import dist
from tests.brokers.node import (
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

FORMAT_TIMEOUT_S = 120
LOG4J = """\
Configuration:
  Appenders: {Console: {name: out, PatternLayout: {Pattern: '[%d] %p %m (%c)%n'}}}
  Loggers: {Root: {level: INFO, AppenderRef: {ref: out}}}
"""


class ProcessNode(Node):
    """A broker as a child process; its disk is ``home/<id>``."""

    def __init__(self, node_id: int, extra: Extra, home: Path) -> None:
        ports = {name: free_port() for name in [*client_listeners(extra), INTERNAL, CONTROLLER]}
        super().__init__(node_id, "127.0.0.1", "127.0.0.1", ports, extra)
        self.home = home / str(node_id)
        self.archive = archive()
        self._process: subprocess.Popen[bytes] | None = None
        self._mounted = False

    @property
    def data(self) -> Path:
        """The log directory."""
        return self.home / "data"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The JVM."""
        assert self._process is not None, f"broker {self.id} has not been started"
        return self._process

    def client_port(self, listener: str) -> int:
        return self.ports[listener]

    def start(self, nodes: Sequence[Node]) -> None:
        self.write_config(nodes)
        self._mount()
        # what `StorageTool format` writes; its one binary file is the same for every node (see warm)
        directory_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        meta = f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={self.id}\ndirectory.id={directory_id}\n"
        (self.data / "meta.properties").write_text(meta)
        shutil.copy(checkpoint(), self.data)
        self.launch()

    def write_config(self, nodes: Sequence[Node]) -> Path:
        """Make its folders and write its settings; returns the file."""
        self.data.mkdir(parents=True)
        settings = {"log.dirs": str(self.data), **self.config(nodes)}
        path = self.home / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def launch(self, *, flag: str = "") -> None:
        """Start the JVM on the disk as it is."""
        share = flag or f"-XX:SharedArchiveFile={self.archive}"
        command = java(share, "kafka.Kafka", str(self.home / "server.properties"))
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen([*_guard(), *command], stdout=log, stderr=log, start_new_session=True)
        self.state = State.RUNNING

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self.state = State.KILLED

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.state = State.PAUSED

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.state = State.RUNNING

    def restart(self) -> None:
        self.kill()
        self.launch()

    def stop(self) -> None:
        self.kill()
        if self._mounted:
            subprocess.run(["umount", str(self.data)], check=True)
            self._mounted = False

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def logs(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def _mount(self) -> None:
        if self.extra.log_bytes_max is None:
            return
        size = f"size={self.extra.log_bytes_max}"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.data)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise dist.BrokersUnavailableError(
                f"a log directory of limited size needs root for broker processes ({done.stderr.strip()}); "
                "run as root, or run a Docker engine and set VIP_ROUTER_TEST_BROKERS=containers"
            )
        self._mounted = True


def java(flag: str, *arguments: str) -> list[str]:
    """The command that runs a class of Kafka's, with one more flag for the JVM."""
    class_path = ":".join(map(str, dist.jars()))
    log4j = f"-Dlog4j2.configurationFile={dist.cache() / 'log4j2.yaml'}"
    return [str(dist.JAVA), *HEAP_OPTIONS.split(), *JVM_OPTIONS.split(), log4j, flag, "-cp", class_path, *arguments]


def archive() -> Path:
    """The archive of classes of this very JVM: it ignores any other without a word."""
    stat = dist.JAVA.resolve().stat()
    return dist.cache() / f"kafka-{stat.st_size}-{stat.st_mtime_ns}.jsa"


def checkpoint() -> Path:
    """The file of a formatted disk that no node can start without."""
    return dist.cache() / "bootstrap.checkpoint"


def warm(ready: Callable[[Node], None]) -> None:
    """Once on a machine (15 s): format a disk to copy from, and dump the archive of classes.

    ``ready`` waits until a broker answers.
    """
    dist.jars()
    with dist.alone("warm"):
        if archive().exists() and checkpoint().exists():
            return
        (dist.cache() / "log4j2.yaml").write_text(LOG4J)
        with tempfile.TemporaryDirectory(dir=dist.cache()) as folder:
            _train(Path(folder), ready)


def _train(folder: Path, ready: Callable[[Node], None]) -> None:
    node = ProcessNode(1, Extra(), folder)
    settings = node.write_config([node])
    form = java("-Xshare:auto", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings))
    subprocess.run(form, check=True, capture_output=True, timeout=FORMAT_TIMEOUT_S)
    shutil.copy(node.data / "bootstrap.checkpoint", checkpoint())
    node.launch(flag=f"-XX:DumpLoadedClassList={folder / 'classes'}")
    try:
        ready(node)
    finally:
        node.kill()
    made = folder / "made.jsa"
    dump = java("-Xshare:dump", f"-XX:SharedClassListFile={folder / 'classes'}", f"-XX:SharedArchiveFile={made}")
    subprocess.run(dump, check=True, capture_output=True, timeout=FORMAT_TIMEOUT_S)
    made.replace(archive())


def _guard() -> list[str]:
    if shutil.which("setpriv") is None:
        return []
    if threading.current_thread() is not threading.main_thread():
        # the kernel sends the signal when the *thread* ends that started the process
        raise RuntimeError("start and restart brokers from the main thread: they would end with this one")
    return ["setpriv", "--pdeathsig", "KILL", "--"]

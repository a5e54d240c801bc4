"""The log that a URL names: ``sqlite:///file``, ``sqlite:////folder/file`` or, for tests, ``memory://``."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from events.log import Log, LogError
from events.memory import MemoryLog
from events.ownership import Waiting
from events.sqlite import SqliteLog, unix_ms

_HINT: Final = "write sqlite:///FILE (below this folder), sqlite:////FOLDER/FILE or kafka://HOST:9092"


class OwnedLog(Log, Protocol):
    """A log whose roles can be owned, as ``events/ownership.py`` has it."""

    def lock(self, role: str, *, waiting: Waiting | None = None) -> AbstractAsyncContextManager[None]:
        """Own ``role`` while the context is entered. Entering waits for as long as it takes, and can be cancelled."""


def open_log(url: str, *, create: Mapping[str, int] | None, read_only: bool = False) -> OwnedLog:
    """Open the log that ``url`` names; blocks for a moment.

    ``create``: topics with their partition counts to make where they are missing, with the file if there is none; None:
    the log must exist. ``read_only``: the file need not be writable. Raises ``ValueError`` for a URL that names no log,
    ``LogUnavailableError`` with what to do, and ``LogError`` if a topic exists with another partition count.
    """
    scheme, rest = _split(url)
    if scheme == "kafka":
        raise LogError(f"{url}: the log on Kafka arrives with the Kafka adapter; {_HINT.rpartition(' or ')[0]}")
    if scheme == "memory":
        if rest:
            raise ValueError(f"log URL {url!r}: memory:// takes no name")
        return MemoryLog(cluster_id=uuid.uuid4().hex, clock_ms=unix_ms, topics=create)
    return SqliteLog(_path(url, rest), create=create, read_only=read_only)


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

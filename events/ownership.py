"""Who works on which partitions of a role, so that two ``serve`` do not wrestle for the same ones.

On one machine a role has one holder at a time, who owns all of its partitions; on Kafka they are shared out
(``events/kafka/ownership.py``). It only decides who *tries*. What keeps a log right is its conditional append; a holder
that was thought dead and wakes up is fenced there. ``FileOwnership`` is for processes on one machine,
``MemoryOwnership`` for tasks of one loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self, TypeAlias

from events.log import Flaw, LogUnavailableError

POLL_INTERVAL_S: Final = 0.05  #: how often a waiting process looks whether the holder has gone

Waiting: TypeAlias = Callable[[], None]  #: called once, when somebody else holds the role
Change: TypeAlias = Callable[[frozenset[int]], Awaitable[None]]  #: awaited with the partitions that are owned from now

_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}")


class Ownership(Protocol):
    """A log whose roles can be owned."""

    def lock(self, role: str, *, waiting: Waiting | None = None) -> AbstractAsyncContextManager[None]:
        """Own ``role`` while the context is entered. Entering waits for as long as it takes, and can be cancelled."""


class HeldWhole(ABC):
    """What logs on one machine have in common: a role's holder has all its partitions, and ``async with`` closes."""

    _ownership: Ownership

    @abstractmethod
    def check_open(self) -> None:
        """Raise ``LogError`` if the log was closed."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def lock(self, role: str, *, waiting: Waiting | None = None) -> AbstractAsyncContextManager[None]:
        """Own ``role`` of this log while the context is entered."""
        self.check_open()
        return self._ownership.lock(role, waiting=waiting)

    async def own(
        self, role: str, partitions: int, change: Change, stop: asyncio.Event, *, waiting: Waiting | None = None
    ) -> None:
        """Own all partitions of ``role`` once nobody else does, until ``stop``; then none, and only then let go."""
        async with self.lock(role, waiting=waiting):
            await change(frozenset(range(partitions)))
            await stop.wait()
            await change(frozenset())

    async def is_owned(self, role: str) -> bool:
        """Whether somebody owns ``role``."""

        def waiting() -> None:
            raise _HeldError

        try:
            async with self.lock(role, waiting=waiting):
                return False
        except _HeldError:
            return True

    async def flaws(self) -> Sequence[Flaw]:
        """None: such a log has no settings of its own."""
        return ()


class _HeldError(Exception):
    """Somebody else holds the role."""


class MemoryOwnership:
    """Roles owned by tasks of one event loop, in the order in which they asked."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}

    @asynccontextmanager
    async def lock(self, role: str, *, waiting: Waiting | None = None) -> AsyncIterator[None]:
        """Own ``role`` while the context is entered."""
        lock = self._locks.setdefault(_checked(role), asyncio.Lock())
        if lock.locked() and waiting is not None:
            waiting()
        async with lock:
            yield


class FileOwnership:
    """Roles owned by processes of one machine, through ``flock`` on ``<file>.<role>.lock``.

    The kernel frees the lock when its holder dies, however it dies. The lock file stays: whoever removed it could not
    know that nobody else has it open. It stands beside the file that symbolic links lead to, so that who uses another
    name of that file is kept out, too.
    """

    def __init__(self, log_path: Path) -> None:
        self._log_path = log_path.resolve()

    @asynccontextmanager
    async def lock(self, role: str, *, waiting: Waiting | None = None) -> AsyncIterator[None]:
        """Own ``role`` while the context is entered. Raises ``LogUnavailableError`` if the lock file cannot be made."""
        descriptor = _open(self._log_path.with_name(f"{self._log_path.name}.{_checked(role)}.lock"))
        try:
            if not _locked(descriptor):
                if waiting is not None:
                    waiting()
                while not _locked(descriptor):  # noqa: ASYNC110  # the kernel tells nobody when a flock falls free
                    await asyncio.sleep(POLL_INTERVAL_S)
            yield
        finally:
            os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LogUnavailableError(
            f"the lock file {path} cannot be opened ({error.strerror}): make it and its folder writable for this user"
        ) from error


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _checked(role: str) -> str:
    if _ROLE.fullmatch(role) is None:
        raise ValueError(f"role {role!r}: use small letters, digits and hyphens, a letter first")
    return role

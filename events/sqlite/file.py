"""A log's file as the operating system has it: made for its owner alone, still the one that was opened, read by whom.

What stands in it is ``events/sqlite/schema.py``'s business.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from events.log import Flaw, LogError

OWNER_ONLY: Final = 0o600  #: SQLite gives its journals the mode of the file itself
LOOK_INTERVAL_S: Final = 0.1  #: a look costs 3 microseconds, and the interpreter lock: seldom enough not to be felt

_making = threading.Lock()


def connect(path: Path, options: str, *, make: bool, busy_timeout_ms: int) -> sqlite3.Connection:
    """A connection to the file; ``make``: with the file, readable and writable for its owner alone, if there is none.

    ``options`` are those of a SQLite URI. A connection may move into another thread once.
    """
    with _making:  # closing the descriptor of a file drops the locks that this process' connections have on it
        if make:
            _make(path)
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?{options}",
            uri=True,
            timeout=busy_timeout_ms / 1000,
            isolation_level=None,  # transactions begin where we say so
            check_same_thread=False,
            cached_statements=64,
        )


def _make(path: Path) -> None:
    with suppress(OSError, RuntimeError):  # it exists, or SQLite says what is wrong
        real = path.resolve()  # a symbolic link to nothing is a place to make one
        os.close(os.open(real, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, OWNER_ONLY))


class Whereabouts:
    """Whether the path still leads to the file that was opened under it. ``clock`` gives seconds, monotonic."""

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._absolute = os.fspath(path.absolute())
        self._clock = clock
        self._identity: tuple[int, int] | None = None
        self._identity = self._look()
        self._good_until_s = 0.0

    def check(self) -> None:
        """Raise ``LogError`` if the file was moved or replaced; looks only if the last look was some time ago."""
        if self._clock() >= self._good_until_s:
            self.check_now()

    def check_now(self) -> None:
        """Raise ``LogError`` if the file was moved or replaced."""
        found = self._look()
        if found is None or found != self._identity:
            raise LogError(
                f"the log {self._path} was moved or replaced while it is in use, and what is written to the old file "
                "is seen by nobody: put it back"
            )
        self._good_until_s = self._clock() + LOOK_INTERVAL_S

    def _look(self) -> tuple[int, int] | None:
        """Device and inode; None: nothing is there."""
        try:
            found = os.stat(self._absolute)  # noqa: PTH116  # a third of what Path costs
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # a folder that may not be looked into any more does not say that the file has gone
            return self._identity
        return found.st_dev, found.st_ino


def file_flaws(path: Path) -> Sequence[Flaw]:
    """What others on this machine may do with the file that they should not."""
    real = path.resolve()
    try:
        found = real.stat()
        is_open = all(folder.stat().st_mode & stat.S_IXOTH for folder in real.parents)
    except OSError:
        return []
    sentences: list[str] = []
    if is_open and found.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        sentences.append(
            f"the log {path} can be read by everybody on this machine, with all addresses and messages: chmod 600 "
            f"{real}*"
        )
    if found.st_nlink > 1:
        sentences.append(
            f"the log {path} has {found.st_nlink} names (hard links): programs that use it under different names at "
            "once damage it; remove all names but one"
        )
    return [Flaw(is_fatal=False, sentence=sentence) for sentence in sentences]

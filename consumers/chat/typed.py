"""Lines from standard input, be it a terminal, a pipe or a file, without holding the event loop up.

A daemon thread reads the descriptor itself: it may wait in there for ever without keeping the process from ending, and
holds no lock of ``sys.stdin`` meanwhile. It reads on only when a line is wanted.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from contextlib import suppress
from typing import Final

CHUNK_BYTES: Final = 64 * 1024
LINE_BYTES_MAX: Final = 64 * 1024  #: what is longer comes as several lines


class Typed:
    """What is typed, line by line. ``is_terminal``: by a person, who sees what comes before typing on."""

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self.is_terminal = os.isatty(descriptor)
        self._loop = asyncio.get_running_loop()
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._wanted = threading.Event()
        self._lines: deque[str] = deque()
        self._rest = b""
        self._ended = False
        threading.Thread(target=self._read, name="typed", daemon=True).start()

    async def next(self) -> str | None:
        """The next line without its line break; None at the end. Cancelling loses nothing."""
        while not self._lines and not self._ended:
            self._wanted.set()
            self._take(await self._chunks.get())
        return self._lines.popleft() if self._lines else None

    def _take(self, chunk: bytes) -> None:
        """Cut what has come into lines; an empty chunk is the end."""
        self._rest += chunk
        *whole, self._rest = self._rest.split(b"\n")
        while len(self._rest) > LINE_BYTES_MAX:
            whole.append(self._rest[:LINE_BYTES_MAX])
            self._rest = self._rest[LINE_BYTES_MAX:]
        if not chunk:
            self._ended = True
            whole += [self._rest] if self._rest else []
        self._lines.extend(line.decode("utf-8", errors="replace").rstrip("\r") for line in whole)

    def _read(self) -> None:
        """The thread: one chunk whenever one is wanted."""
        chunk = b"-"
        while chunk:
            self._wanted.wait()
            self._wanted.clear()
            try:
                chunk = os.read(self._descriptor, CHUNK_BYTES)
            except OSError:  # no standard input at all, or its terminal has gone
                chunk = b""
            with suppress(RuntimeError):  # the loop has ended: nobody waits any more
                self._loop.call_soon_threadsafe(self._chunks.put_nowait, chunk)

"""The CRM of the benchmarks: as fast as Python can be, in a process of its own, and hanging where it is told to.

``python -m tests.bench.crm_server`` prints its port and serves until its standard input is closed. ``/hang`` is never
answered. ``/outage`` is refused with 503 until the first ``/recover``; ``/most`` then says how many requests to
``/outage`` came in any one second since.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

BODY: Final = b'{"customerType":"VIP","accountManager":"anna"}'


def http(status: bytes, body: bytes) -> bytes:
    """A whole answer."""
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return head + body


FOUND: Final = http(b"200 OK", BODY)
DOWN: Final = http(b"503 Down", b"{}")


class Crm(asyncio.Protocol):
    """One connection. The times of requests to ``/outage`` are shared by all."""

    up_s: float | None = None
    came_s: list[float] = []  # noqa: RUF012  # shared on purpose

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._unread = b""

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are complete."""
        self._unread += data
        *heads, self._unread = self._unread.split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(self._answer(head.split(b" ", 2)[1]))

    def _answer(self, target: bytes) -> bytes:
        if target.startswith(b"/hang"):
            return b""
        if target.startswith(b"/recover"):
            Crm.up_s = time.monotonic()
        elif target.startswith(b"/most"):
            return http(b"200 OK", b'{"most": %d}' % most_in_a_second(Crm.came_s))
        elif target.startswith(b"/outage"):
            if Crm.up_s is None:
                return DOWN
            Crm.came_s.append(time.monotonic())
        return FOUND


def most_in_a_second(times_s: list[float]) -> int:
    """The most that any second has had."""
    first = most = 0
    for number, at_s in enumerate(times_s):
        while times_s[first] <= at_s - 1:
            first += 1
        most = max(most, number - first + 1)
    return most


async def serve() -> None:
    """Until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Crm, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())

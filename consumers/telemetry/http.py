"""A very small HTTP server: GET and HEAD of a few paths, one request a connection, everything bounded.

It serves probes and Prometheus on the loop that also routes conversations, so no client may hold it up: a request's
head is small and has to come in time, connections are few, and when they are used up the oldest one goes. What the
paths answer is the caller's business. It knows neither TLS nor passwords:
whom to let through is the network's business.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

HEAD_BYTES_MAX: Final = 8 * 1024
CONNECTIONS_MAX: Final = 32
HEAD_TIMEOUT_S: Final = 5.0  #: from the connection to the end of the request's head
ANSWER_TIMEOUT_S: Final = 10.0  #: to make the answer and send it
LINGER_S: Final = 1.0  #: for a client to take the answer before the connection is cut
LINGER_BYTES_MAX: Final = 64 * 1024

TEXT: Final = "text/plain; charset=utf-8"

_REQUEST: Final = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]*) HTTP/1\.[01]")

logger = logging.getLogger(__name__)


class Response(NamedTuple):
    """What a path answers."""

    status: HTTPStatus
    content_type: str
    body: bytes


Handler = Callable[[], Awaitable[Response]]


class HttpServer:
    """Answers ``paths``. ``start`` and ``close`` are its life; ``head_timeout_s`` is for tests."""

    def __init__(self, paths: Mapping[str, Handler], *, head_timeout_s: float = HEAD_TIMEOUT_S) -> None:
        self._paths = paths
        self._head_timeout_s = head_timeout_s
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # in the order in which they came

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which is any free one if ``port`` is 0. Raises ``OSError``."""
        self._server = await asyncio.start_server(
            self._connected, host=host, port=port, limit=HEAD_BYTES_MAX, backlog=128, reuse_address=True
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        """Stop listening and cut what is open; returns when all of it has ended."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS_MAX:  # a quick probe must get through, however many slow clients there are
            oldest = next(iter(self._open))
            self._forget(oldest)
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._open[task] = writer
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        """Cut a connection: also that of a task that was cancelled before it began."""
        writer = self._open.pop(task, None)
        if writer is not None:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError):  # the client has gone, or is too slow
            response, with_body = await self._respond(reader)
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                writer.write(_bytes(response, with_body=with_body))
                await writer.drain()
                writer.write_eof()
            await _linger(reader)

    async def _respond(self, reader: asyncio.StreamReader) -> tuple[Response, bool]:
        """The answer to the request that comes, and whether its body is wanted."""
        try:
            async with asyncio.timeout(self._head_timeout_s):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        found = _REQUEST.fullmatch(head.split(b"\r\n", 1)[0])
        if found is None:
            return _plain(HTTPStatus.BAD_REQUEST), True
        method, target = found[1], found[2].decode("ascii")
        if method not in (b"GET", b"HEAD"):
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED), True
        handler = self._paths.get(target.partition("?")[0])
        if handler is None:
            return _plain(HTTPStatus.NOT_FOUND), method == b"GET"
        return await _answer(handler), method == b"GET"


async def _answer(handler: Handler) -> Response:
    """What the handler answers; a fault in it is told to the client as 500 without details and to the log as its kind.

    Never a traceback with values: it may hold what nobody may read.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await handler()
    except TimeoutError:
        return _plain(HTTPStatus.SERVICE_UNAVAILABLE)
    except Exception as error:  # noqa: BLE001  # a fault in telling how it goes must not stop the work
        logger.error("telemetry failed with %s", type(error).__name__)  # noqa: TRY400  # see above
        return _plain(HTTPStatus.INTERNAL_SERVER_ERROR)


async def _linger(reader: asyncio.StreamReader) -> None:
    """Read on until the client closes: cutting a connection with unread bytes in it would destroy the answer."""
    left_bytes = LINGER_BYTES_MAX
    async with asyncio.timeout(LINGER_S):
        while left_bytes > 0:
            read = await reader.read(min(left_bytes, HEAD_BYTES_MAX))
            if not read:
                return
            left_bytes -= len(read)


def _plain(status: HTTPStatus) -> Response:
    return Response(status, TEXT, f"{status.phrase}\n".encode())


def _bytes(response: Response, *, with_body: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {response.status.value} {response.status.phrase}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
    ]
    if response.status is HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD")
    head = "\r\n".join(lines).encode("ascii") + b"\r\n\r\n"
    return head + response.body if with_body else head

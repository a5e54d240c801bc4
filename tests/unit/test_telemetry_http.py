"""The tiny HTTP server, over real sockets: what it answers, and that nobody can hold it up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import pytest

from consumers.telemetry.http import CONNECTIONS_MAX, HEAD_BYTES_MAX, TEXT, HttpServer, Response

PATIENCE_S = 20.0
GET = b"GET /ok HTTP/1.1\r\nHost: here\r\n\r\n"


async def ok() -> Response:
    return Response(HTTPStatus.OK, TEXT, b"fine\n")


async def broken() -> Response:
    raise ValueError("ann@example.com")


@asynccontextmanager
async def serving(head_timeout_s: float = PATIENCE_S) -> AsyncIterator[int]:
    server = HttpServer({"/ok": ok, "/broken": broken}, head_timeout_s=head_timeout_s)
    port = await server.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await server.close()


async def ask(port: int, request: bytes) -> bytes:
    """Everything that comes back until the server closes."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_get_answers_with_a_body_and_head_with_the_same_head_alone():
    async with serving() as port:
        answer = await ask(port, GET)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert status(answer) == 200
        assert body == b"fine\n"
        assert b"Content-Length: 5" in head
        assert b"Connection: close" in head
        assert await ask(port, GET.replace(b"GET", b"HEAD")) == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "expected"),
    [
        (b"GET /ok?a=b HTTP/1.0\r\n\r\n", 200),
        (b"GET /other HTTP/1.1\r\n\r\n", 404),
        (b"GET /ok/ HTTP/1.1\r\n\r\n", 404),
        (b"GET /../ok HTTP/1.1\r\n\r\n", 404),
        (b"POST /ok HTTP/1.1\r\nContent-Length: 200000\r\n\r\n" + b"x" * 20_000, 405),
        (b"get /ok HTTP/1.1\r\n\r\n", 400),
        (b"GET /ok HTTP/2.0\r\n\r\n", 400),
        (b"GET /ok\r\n\r\n", 400),
        (b"GET http://elsewhere/ok HTTP/1.1\r\n\r\n", 400),
        (b"GET /o\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\x00" * 100 + b"\r\n\r\n", 400),
        (b"GET /ok HTTP/1.1\r\nX: " + b"y" * HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"z" * 20_000, 431),
        (b"GET /broken HTTP/1.1\r\n\r\n", 500),
    ],
)
async def test_every_request_gets_the_answer_that_it_deserves(request_bytes: bytes, expected: int):
    async with serving() as port:
        assert status(await ask(port, request_bytes)) == expected
        assert status(await ask(port, GET)) == 200, "and the next one is served as if nothing had been"


async def test_a_fault_tells_nobody_more_than_its_kind(caplog):
    async with serving() as port:
        answer = await ask(port, b"GET /broken HTTP/1.1\r\n\r\n")
    assert b"ann@" not in answer
    assert "ValueError" in caplog.text
    assert "ann@" not in caplog.text


async def test_a_client_that_never_ends_its_request_is_cut():
    async with serving(head_timeout_s=0.05) as port:
        assert await ask(port, b"GET /ok HTTP/1.1\r\n") == b""
        assert await ask(port, b"") == b""


Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def many_slow(port: int, count: int) -> list[Client]:
    """Connections that have begun a request and do not end it."""
    clients = []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /ok HT")
        await writer.drain()
        clients.append((reader, writer))
    return clients


async def is_served_beside_slow_clients(port: int) -> bool:
    """The oracle: whether a request gets its answer while slow clients have used up every connection."""
    clients = await many_slow(port, 3 * CONNECTIONS_MAX)
    try:
        async with asyncio.timeout(2):
            return status(await ask(port, GET)) == 200
    except (TimeoutError, OSError):
        return False
    finally:
        for _, writer in clients:
            writer.close()


async def test_many_slow_clients_keep_no_probe_waiting():
    async with serving() as port:
        assert await is_served_beside_slow_clients(port)


async def test_a_server_that_lets_slow_clients_stay_is_found():
    """Planted: connections are bounded, and the ones that came first keep their place."""
    slots = asyncio.Semaphore(CONNECTIONS_MAX)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with slots:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        assert not await is_served_beside_slow_clients(server.sockets[0].getsockname()[1])


async def test_the_oldest_connection_goes_first_and_no_more_are_kept_than_may_be():
    async with serving() as port:
        clients = await many_slow(port, CONNECTIONS_MAX)
        assert status(await ask(port, GET)) == 200
        oldest, youngest = clients[0], clients[-1]
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(ConnectionError):
                await read_all(oldest)
            youngest[1].write(b"TP/1.1\r\n\r\n")
            assert status(await youngest[0].read()) == 200, "the others are served when their request is whole"
        for _, writer in clients:
            writer.close()


async def read_all(client: Client) -> None:
    """Read to the end, which of a connection that was cut is an error: also where the cut shows as an early end."""
    if await client[0].read() == b"":
        raise ConnectionResetError


async def test_closing_ends_what_is_open():
    server = HttpServer({"/ok": ok})
    port = await server.start("127.0.0.1", 0)
    clients = await many_slow(port, 3)
    async with asyncio.timeout(PATIENCE_S):
        await server.close()
        for client in clients:
            with pytest.raises(ConnectionError):
                await read_all(client)
            client[1].close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_an_answer_that_nobody_reads_holds_nobody_up():
    async def large() -> Response:
        return Response(HTTPStatus.OK, TEXT, b"x" * 20_000_000)

    server = HttpServer({"/large": large, "/ok": ok})
    port = await server.start("127.0.0.1", 0)
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /large HTTP/1.1\r\n\r\n")
    await writer.drain()
    assert status(await ask(port, GET)) == 200
    async with asyncio.timeout(PATIENCE_S):
        await server.close()
    writer.close()

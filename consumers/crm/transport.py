"""``httpx``'s interface over ``aiohttp``'s connections: an ``httpx.AsyncBaseTransport`` of aiohttp's public API.

httpx's own pool costs 8 to 15 ms of CPU a request at 50 to 500 in flight, and hands what one answer had too much to
the next request. aiohttp alone does that too where the surplus comes late: hence ``_CheckedRequest``, which sends
nothing over a connection that has said something unasked. What is left is what HTTP/1.1 cannot tell: a whole second
answer that is still in the network when the next request leaves.

Every error of aiohttp becomes one of httpx's (``httpx_error``), without URL, header or address in message or chain.
Bodies are handed on raw, nothing is unpacked, nothing is followed, no cookie is kept, no proxy is used.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
import httpx
from aiohttp.connector import Connection
from yarl import URL

from consumers.crm.addresses import ForbiddenAddressError, Guard, GuardedResolver
from consumers.crm.slots import Slots

DNS_CACHE_S: Final = 10
KEEP_ALIVE_S: Final = 15.0
LINE_BYTES_MAX: Final = 8 * 1024  #: of the status line, of one header
HEADERS_MAX: Final = 100
READ_BYTES: Final = 16 * 1024  #: buffered of a body before the connection is told to wait
STALE_MAX: Final = 1_000  #: connections in a row that turn out unusable before any byte is sent

_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


class _StaleConnectionError(aiohttp.ClientConnectionError):
    """A kept connection that is closed, or has said something that nobody asked for. Nothing was sent over it."""


class _NotRepeatedError(aiohttp.ClientConnectionError):
    """A connection that broke before its answer: aiohttp would send the request again, beside attempts and rate."""

    def __init__(self, error: aiohttp.ClientError) -> None:
        super().__init__()
        self.error = error


async def _once(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Middleware that keeps aiohttp from repeating requests."""
    try:
        return await send(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise _NotRepeatedError(error) from None


class _CheckedRequest(aiohttp.ClientRequest):
    """A request that is sent only over a connection on which nothing waits to be read."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        protocol, transport = conn.protocol, conn.transport
        if protocol is None or transport is None or protocol.should_close or _is_readable(transport):
            raise _StaleConnectionError
        return await super().send(conn)


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over at most ``connections_max`` connections, to addresses that ``guard`` allows.

    ``keep_alive``: a connection may serve another request afterwards. A request that has to wait for a connection
    longer than its ``pool`` time-out raises ``httpx.PoolTimeout``.
    """

    def __init__(self, *, guard: Guard, tls: ssl.SSLContext, connections_max: int, keep_alive: bool = True) -> None:
        self._guard = guard
        self._tls = tls
        self._keep_alive = keep_alive
        self._slots = Slots(connections_max)
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the response's stream has to be closed. Raises ``httpx.TransportError``."""
        timeouts: Mapping[str, float | None] = request.extensions.get("timeout", {})
        await self._enter(timeouts.get("pool"))
        failure: httpx.TransportError | None = None
        try:
            response = await self._send(request, timeouts)
        except Exception as error:  # noqa: BLE001  # whatever it is, it becomes an error of httpx
            failure = httpx_error(error)
        except BaseException:
            self._slots.leave()
            raise
        if failure is not None:  # raised out here, so that the library's error is not in its chain
            self._slots.leave()
            raise failure
        return httpx.Response(
            status_code=response.status, headers=response.raw_headers, stream=_Body(response, self._slots)
        )

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _enter(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._slots.enter()
        except TimeoutError:
            raise httpx.PoolTimeout("no connection is free") from None

    async def _send(self, request: httpx.Request, timeouts: Mapping[str, float | None]) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = self._open()
        body = await request.aread()
        for _ in range(STALE_MAX):
            try:
                return await self._session.request(
                    method=request.method,
                    url=URL(str(request.url), encoded=True),
                    headers=_headers(request),
                    data=body or None,
                    allow_redirects=False,
                    timeout=_timeout(timeouts),
                )
            except _StaleConnectionError:
                continue
        raise ConnectionResetError

    def _open(self) -> aiohttp.ClientSession:
        keep: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE_S} if self._keep_alive else {"force_close": True}
        connector = aiohttp.TCPConnector(
            ssl=self._tls,
            resolver=GuardedResolver(self._guard),
            socket_factory=self._guard.make_socket,
            use_dns_cache=True,
            ttl_dns_cache=DNS_CACHE_S,
            limit=0,
            limit_per_host=0,
            **keep,
        )
        return aiohttp.ClientSession(
            connector=connector,
            request_class=_CheckedRequest,
            middlewares=(_once,),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("accept", "accept-encoding", "user-agent", "content-type"),
            timeout=_NO_TIMEOUT,
            auto_decompress=False,
            raise_for_status=False,
            trust_env=False,
            read_bufsize=READ_BYTES,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
        )


class _Body(httpx.AsyncByteStream):
    """An answer's body as it comes. Closing it before its end closes the connection."""

    def __init__(self, response: aiohttp.ClientResponse, slots: Slots) -> None:
        self._response: aiohttp.ClientResponse | None = response
        self._slots = slots

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._response is None:
            return
        failure: httpx.TransportError | None = None
        content = self._response.content
        while failure is None:
            try:
                chunk = await content.readany()
            except Exception as error:  # noqa: BLE001  # whatever it is, it becomes an error of httpx
                failure = httpx_error(error)
            else:
                if not chunk:
                    return
                yield chunk
        raise failure

    async def aclose(self) -> None:
        response, self._response = self._response, None
        if response is None:
            return
        response.close()  # a connection whose answer was read to its end is back in the pool already
        self._slots.leave()


def httpx_error(error: Exception) -> httpx.TransportError:
    """What httpx calls an error of aiohttp. Only what lies beneath a failed connection is kept, as its cause."""
    if isinstance(error, _NotRepeatedError):
        error = error.error
    known: type[httpx.TransportError] = httpx.NetworkError
    cause: BaseException | None = None
    for kind, name in _NAMES:
        if isinstance(error, kind):
            known = name
            break
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = _bare(error.certificate_error)
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = _bare(error.os_error)
    elif isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError):
        cause = _bare(error)
    failure = known(f"{type(error).__name__} of aiohttp")
    failure.__cause__ = cause
    return failure


#: The first one that fits counts.
_NAMES: Final[tuple[tuple[type[BaseException], type[httpx.TransportError]], ...]] = (
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout),
    (TimeoutError, httpx.ReadTimeout),
    (ForbiddenAddressError, httpx.ConnectError),
    (aiohttp.ClientConnectorError, httpx.ConnectError),  # DNS, refused, TLS
    (aiohttp.ClientConnectorCertificateError, httpx.ConnectError),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError),
    (aiohttp.ClientPayloadError, httpx.RemoteProtocolError),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError),
    (aiohttp.http_exceptions.HttpProcessingError, httpx.RemoteProtocolError),
    (aiohttp.ClientConnectionError, httpx.ReadError),
    (aiohttp.ClientError, httpx.ReadError),
    (ConnectionResetError, httpx.ReadError),
    (socket.gaierror, httpx.ConnectError),
    (ssl.SSLError, httpx.ConnectError),
    (OSError, httpx.ReadError),
    (ValueError, httpx.LocalProtocolError),  # a header that cannot be sent
    (RuntimeError, httpx.CloseError),  # the session is closed
)


def _bare(error: BaseException) -> BaseException:
    """An error of the same kind without its words and its chain: both may name the address."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, ForbiddenAddressError):
        return ForbiddenAddressError()
    for kind in (ssl.SSLCertVerificationError, ssl.SSLError, socket.gaierror, ConnectionRefusedError):
        if isinstance(error, kind):
            return kind(number or 0, "")
    return OSError(number or 0, "")


def _is_readable(transport: asyncio.BaseTransport) -> bool:
    """Whether the connection has something to read, its end included, that has not been read yet."""
    plug = transport.get_extra_info("socket")
    if plug is None:
        return False
    poll = select.poll()
    poll.register(plug.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _headers(request: httpx.Request) -> list[tuple[str, str]]:
    return [
        (name.decode("ascii"), value.decode("utf-8"))
        for name, value in request.headers.raw
        if name.lower() not in {b"content-length", b"connection"}
    ]


def _timeout(timeouts: Mapping[str, float | None]) -> aiohttp.ClientTimeout:
    connect_s, read_s = timeouts.get("connect"), timeouts.get("read")
    if connect_s is None and read_s is None:
        return _NO_TIMEOUT
    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=read_s)

"""One exchange with the CRM over HTTP: the policy's request, and the answer's JSON or a ``TroubleError``.

How often and how long to try is ``consumers/crm/client.py``'s business, how bytes travel ``transport.py``'s.

Addresses, secrets and URLs with addresses stand in no error of this module. The HTTP libraries' own logging has them:
``silence_http_logs`` keeps them from that.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httpx
import orjson

from consumers.crm.addresses import ForbiddenAddressError, Guard
from consumers.crm.outcomes import BODY_BYTES_MAX, LookUp, TroubleError
from consumers.crm.retry_after import retry_after_s
from consumers.crm.transport import AiohttpTransport
from consumers.crm.variables import compile_paths
from consumers.secrets import Secrets, secret_names
from routing.crm_checks import PLACEHOLDERS, SECRET
from routing.crm_networks import parse_network
from routing.policy import Crm

STATUS_NOT_FOUND: Final = 404
DRAIN_S: Final = 0.1  #: for the rest of an answer that nobody reads, so that its connection may serve again
DRAIN_BYTES_MAX: Final = 64 * 1024
REPEATABLE: Final = frozenset({"GET", "PUT"})  #: to do it twice is to do it once (RFC 9110, section 9.2.2)

_PLACE: Final = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")
_SECRET_OR_PLACE: Final = re.compile(rf"{SECRET.pattern}|{_PLACE.pattern}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_WORKED_ON: Final = frozenset({429, 503})
_CONNECT_REASONS: Final = ((socket.gaierror, "dns"), (ssl.SSLError, "tls"), (ConnectionRefusedError, "refused"))
_HTTP_LOGGERS: Final = (
    "httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy",
    "aiohttp.client", "aiohttp.internal",
)  # fmt: skip


class Endpoint:
    """The CRM as one policy describes it, with connections of its own.

    ``users`` counts the look-ups that hold it; ``close`` it when there are none. Raises ``SecretError`` on the way in,
    and ``TroubleError`` for a URL that nobody can be asked at.
    """

    def __init__(
        self,
        crm: Crm,
        *,
        version: str,
        secrets: Secrets,
        tls: ssl.SSLContext,
        connections_max: int,
        clock: Callable[[], int],
    ) -> None:
        self.crm = crm
        self.users = 0
        self.edition = 0  #: of the secrets that requests are made with
        self.paths = compile_paths(crm.variables)
        self._clock = clock
        self._version = version
        texts = (crm.url, *crm.headers.values(), crm.body or "")
        self._names = sorted({name for text in texts for name in _PLACE.findall(text)})
        lines = [(name.lower().encode("ascii"), text) for name, text in crm.headers.items()]
        self._headers = [(name, text) for name, text in lines if _PLACE.search(text)]
        self._fixed_lines = [(name, text) for name, text in lines if not _PLACE.search(text)]
        self._kept = secrets
        self._fill(self._read_secrets())
        self._base = _base(crm.url)
        guard = Guard(urlsplit(crm.url).hostname or "", [parse_network(text) for text in crm.allow_networks])
        self._client = _http_client(
            AiohttpTransport(guard=guard, tls=tls, connections_max=connections_max, keep_alive=self.is_repeatable)
        )

    @property
    def is_repeatable(self) -> bool:
        """Whether the request may be sent again although the CRM may have worked on it."""
        return self.crm.method in REPEATABLE or self.crm.repeat == "always"

    @property
    def host(self) -> str:
        """The host that the policy names, with its port if it names one."""
        return self._base.netloc.decode("ascii")

    def has_newer_secrets(self, edition: int) -> bool:
        """Whether requests are made with other secrets than in this edition; reads them again to know.

        Raises ``SecretError``.
        """
        if self.edition == edition and (now := self._read_secrets()) != self._secrets:
            self._fill(now)
            self.edition += 1
        return self.edition != edition

    def _read_secrets(self) -> dict[str, str]:
        return {name: self._kept.get(name) for name in secret_names(self.crm)}

    def _fill(self, secrets: dict[str, str]) -> None:
        """Make what is the same in all requests."""
        self._secrets = secrets
        fixed = {name: self._filled(text, {}, _as_it_is).encode("utf-8") for name, text in self._fixed_lines}
        self._fixed = list((_defaults(self.crm) | fixed | {b"accept-encoding": b"identity"}).items())

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def key(self, ask: LookUp) -> bytes:
        """What two look-ups have in common if their requests are the same; tells nothing of what is in them."""
        values = _values(ask)
        digest = blake2b(self._version.encode(), digest_size=16)
        for name in self._names:
            value = values[name].encode("utf-8", errors="surrogatepass")
            digest.update(b"%d:%b" % (len(value), value))
        return digest.digest()

    def request(self, ask: LookUp) -> httpx.Request:
        """The policy's request for one contact; raises ``TroubleError``."""
        values, crm = _values(ask), self.crm
        problem = False
        try:
            for value in values.values():
                value.encode("utf-8")
            url = _PLACE.sub(lambda found: quote(values[found[1]], safe=""), crm.url)
            own = [(name, self._filled(text, values, _in_header).encode("utf-8")) for name, text in self._headers]
            request = httpx.Request(
                method=crm.method,
                url=url,
                headers=[*self._fixed, *own],
                content=None if crm.body is None else self._filled(crm.body, values, _in_json).encode("utf-8"),
            )
            problem = _leaves(request.url, self._base)
        except (UnicodeError, httpx.InvalidURL, _UnusableValueError):
            problem = True
        if problem:
            raise TroubleError("unusable-request", unsent=True)
        return request

    async def exchange(self, request: httpx.Request) -> tuple[int, Any]:
        """Send it once and read the answer: the status, and the JSON document (``{}`` for a contact not found).

        Takes as long as the CRM does: the caller keeps the time. Raises ``TroubleError`` alone.
        """
        try:
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                return await self._read(response)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            trouble = trouble_of(error)
        raise trouble  # out here, so that the library's error, which holds the request, is not in its chain

    async def _read(self, response: httpx.Response) -> tuple[int, Any]:
        status = response.status_code
        if response.is_success:
            return status, _document(await _body(response), status)
        await _drain(response)
        if status == STATUS_NOT_FOUND and self.crm.not_found == "regular":
            return status, {}
        raise self._refused(response)

    def _refused(self, response: httpx.Response) -> TroubleError:
        """The trouble that a status stands for."""
        status = response.status_code
        return TroubleError(
            f"http-{status}",
            status=status,
            retriable=status in _NOT_WORKED_ON or response.is_server_error,
            unsent=status in _NOT_WORKED_ON,
            retry_after_s=retry_after_s(response.headers, now_ms=self._clock()),
        )

    def _filled(self, template: str, values: Mapping[str, str], written: Callable[[str], str]) -> str:
        """A header or the body, in one pass: what a value brings along is never filled in again."""
        return _SECRET_OR_PLACE.sub(
            lambda found: written(self._secrets[found[1]] if found[1] else values[found[2]]), template
        )


class _UnusableValueError(Exception):
    """A value that would change the request's shape."""


def _base(template: str) -> httpx.URL:
    """The URL up to the first placeholder."""
    try:
        return httpx.URL(_PLACE.split(template)[0])
    except httpx.InvalidURL:
        raise TroubleError("unusable-request", unsent=True) from None


def _values(ask: LookUp) -> dict[str, str]:
    return {"email": ask.email, "contact_id": ask.contact, "conversation_id": ask.conversation}


class _NoCookies(httpx.Cookies):
    """Takes none and gives none: cookies would tie customers together."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave the answer's cookies where they are."""

    def set_cookie_header(self, request: httpx.Request) -> None:
        """Leave the request as it is."""


class _Client(httpx.AsyncClient):
    """A client without cookies; the library's own jar costs a tenth of a look-up even while it keeps nothing."""

    @property
    def cookies(self) -> httpx.Cookies:
        """None, ever."""
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, _: Any) -> None:
        raise AttributeError("this client has no cookies")


_NO_COOKIES: Final = _NoCookies()


def _http_client(transport: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
    """A client that follows, keeps and trusts nothing by itself.

    The library's own time-outs are off, because they start again with every byte; the caller's bound the whole.
    """
    return _Client(transport=transport, trust_env=False, follow_redirects=False, timeout=httpx.Timeout(None), auth=None)


def _defaults(crm: Crm) -> dict[bytes, bytes]:
    """The headers that the policy's stand over; how the connection works is not the policy's to say."""
    headers = {b"accept": b"application/json", b"user-agent": b"vip-router"}
    if crm.body is not None:
        headers[b"content-type"] = b"application/json"
    return headers


def _as_it_is(text: str) -> str:
    return text


def _in_header(text: str) -> str:
    if _CONTROL.search(text):
        raise _UnusableValueError
    return text


def _in_json(text: str) -> str:
    return orjson.dumps(text)[1:-1].decode("utf-8")


def _leaves(url: httpx.URL, base: httpx.URL) -> bool:
    """Whether a filled-in URL leads elsewhere than ``base``, its part before the first placeholder, does."""
    if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
        return True
    if not url.raw_path.startswith(base.raw_path):
        return True
    path = unquote(unquote(url.raw_path.partition(b"?")[0].decode("ascii")))  # some servers decode twice
    return any(segment in {".", ".."} for segment in re.split(r"[/\\]", path))


async def _body(response: httpx.Response) -> bytes:
    """The body as it came. Nothing unpacks it: that would have no limit."""
    status = response.status_code
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise TroubleError("encoded", status=status)
    body = bytearray()
    async for chunk in _raw(response):
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise TroubleError("too-large", status=status)
    return bytes(body)


def _raw(response: httpx.Response) -> AsyncIterator[bytes]:
    """The body's bytes, chunk by chunk, as the transport gives them."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    return aiter(stream)


async def _drain(response: httpx.Response) -> None:
    """Read the rest of a short answer. What does not come at once is cut off with its connection."""
    left = DRAIN_BYTES_MAX
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(DRAIN_S):
            async for chunk in _raw(response):
                left -= len(chunk)
                if left < 0:
                    return


def _document(body: bytes, status: int) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:  # it holds the whole answer
        document = None
    if document is None and body.strip() != b"null":
        raise TroubleError("not-json", status=status)
    if not isinstance(document, dict | list):
        raise TroubleError("wrong-type", status=status)
    return document


def trouble_of(error: httpx.HTTPError) -> TroubleError:
    """The library's error by what lies beneath it; its own classes do not tell DNS, TLS and refusal apart."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return TroubleError("unusable-request", unsent=True)
    if isinstance(error, httpx.TimeoutException):
        unsent = isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout)
        return TroubleError("time-out", retriable=True, unsent=unsent)
    causes = list(_causes(error))
    if any(isinstance(cause, ForbiddenAddressError) for cause in causes):
        return TroubleError("forbidden-address", unsent=True)
    for kind, reason in _CONNECT_REASONS:
        if any(isinstance(cause, kind) for cause in causes):
            is_final = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
            return TroubleError(reason, retriable=not is_final, unsent=True)
    return TroubleError("connection", retriable=True, unsent=isinstance(error, httpx.ConnectError))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it was made of, groups included."""
    waiting: list[BaseException] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [other for other in (one.__cause__, one.__context__) if other is not None]
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions


def _is_loud(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def silence_http_logs() -> None:
    """Keep the HTTP libraries from logging URLs and headers, whatever level is set. Doing it twice is once."""
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_is_loud)

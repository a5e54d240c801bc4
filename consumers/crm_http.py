"""One exchange with the CRM over HTTP: the policy's request, and the answer's JSON or a ``TroubleError``.

How often and how long to try is ``consumers/crm_client.py``'s business. Another transport belongs in here.

Addresses, secrets and URLs with addresses stand in no error of this module. The HTTP library's own logging has them:
``silence_http_logs`` keeps it from that.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import quote

import httpx
import orjson

from consumers.secrets import Secrets
from routing.crm_checks import PLACEHOLDERS, SECRET
from routing.policy import Crm

BODY_BYTES_MAX: Final = 1024 * 1024  #: of an answer
STATUS_NOT_FOUND: Final = 404

_PLACE: Final = re.compile(rf"\{{({'|'.join(PLACEHOLDERS)})\}}")
_SECRET_OR_PLACE: Final = re.compile(rf"{SECRET.pattern}|{_PLACE.pattern}")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_STATUS_TOO_MANY: Final = 429
_CONNECT_REASONS: Final = ((socket.gaierror, "dns"), (ssl.SSLError, "tls"), (ConnectionRefusedError, "refused"))
_HTTP_LOGGERS: Final = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


class TroubleError(Exception):
    """An attempt without an answer. Carries nothing of what was asked or answered but the status."""

    def __init__(
        self, reason: str, *, status: int | None = None, retriable: bool = False, retry_after_s: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason  #: one of ``crm_client.REASONS``
        self.status = status
        self.retriable = retriable
        self.retry_after_s = retry_after_s  #: the CRM asked to be left alone for so long


class Endpoint:
    """The CRM as one policy describes it, with connections of its own.

    ``users`` counts the look-ups that hold it; ``close`` it when there are none. Raises ``SecretError`` on the way in.
    """

    __slots__ = ("_body_secrets", "_client", "_crm", "users")

    def __init__(self, crm: Crm, *, secrets: Secrets, tls: ssl.SSLContext, connections_max: int) -> None:
        self._crm = crm
        self._body_secrets = {name: secrets.get(name) for name in SECRET.findall(crm.body or "")}
        self._client = _http_client(_headers(crm, secrets), tls, connections_max)
        self.users = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def request(self, *, email: str, contact_id: str, conversation_id: str) -> httpx.Request:
        """The policy's request for one contact; raises ``TroubleError``."""
        values = {"email": email, "contact_id": contact_id, "conversation_id": conversation_id}
        try:
            for value in values.values():
                value.encode("utf-8")
            url = _PLACE.sub(lambda found: quote(values[found[1]], safe=""), self._crm.url)
            body = None if self._crm.body is None else _filled(self._crm.body, self._body_secrets, values)
            request = self._client.build_request(method=self._crm.method, url=url, content=body)
        except (UnicodeEncodeError, httpx.InvalidURL):
            raise TroubleError("unusable-request") from None
        if _climbs(url):
            raise TroubleError("unusable-request")
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
            raise _trouble_of(error) from None

    async def _read(self, response: httpx.Response) -> tuple[int, Any]:
        status = response.status_code
        if status == STATUS_NOT_FOUND and self._crm.not_found == "regular":
            return status, {}
        if not response.is_success:
            raise _refused(response)
        return status, _document(await _body(response), status)


def _http_client(headers: Mapping[bytes, bytes], tls: ssl.SSLContext, connections_max: int) -> httpx.AsyncClient:
    """A client that follows, keeps and trusts nothing by itself.

    Connections serve one request each: the library's pool can hand the surplus bytes of one answer to the next
    request, which is another customer's data. Cookies would tie customers together too. The library's own time-outs
    are off, because they start again with every byte; the caller's bound the whole.
    """
    return httpx.AsyncClient(
        headers=headers,
        cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
        verify=tls,
        http1=True,
        http2=False,
        proxy=None,
        trust_env=False,
        follow_redirects=False,
        timeout=httpx.Timeout(None),
        limits=httpx.Limits(max_connections=connections_max, max_keepalive_connections=0, keepalive_expiry=0.0),
    )


def _headers(crm: Crm, secrets: Secrets) -> dict[bytes, bytes]:
    """The policy's headers over our defaults; how the connection works is not the policy's to say."""
    headers = {b"accept": b"application/json", b"user-agent": b"vip-router"}
    if crm.body is not None:
        headers[b"content-type"] = b"application/json"
    for name, template in crm.headers.items():
        value = SECRET.sub(lambda found: secrets.get(found[1]), template)
        headers[name.lower().encode("utf-8")] = value.encode("utf-8")
    return headers | {b"accept-encoding": b"identity", b"connection": b"close"}


def _filled(template: str, secrets: Mapping[str, str], values: Mapping[str, str]) -> bytes:
    """The body, in one pass: what a value brings along is never filled in again."""
    filled = _SECRET_OR_PLACE.sub(
        lambda found: _json_escaped(secrets[found[1]] if found[1] else values[found[2]]), template
    )
    return filled.encode("utf-8")


def _json_escaped(text: str) -> str:
    return orjson.dumps(text)[1:-1].decode("utf-8")


def _climbs(url: str) -> bool:
    """Whether a path segment is ``.`` or ``..``: an id must not lead to another resource."""
    path = url.partition("?")[0].partition("://")[2]
    return any(segment in {".", ".."} for segment in path.split("/"))


def _refused(response: httpx.Response) -> TroubleError:
    """The trouble that a status stands for."""
    status = response.status_code
    return TroubleError(
        f"http-{status}",
        status=status,
        retriable=status == _STATUS_TOO_MANY or response.is_server_error,
        retry_after_s=_retry_after_s(response.headers.get("retry-after", "")),
    )


def _retry_after_s(text: str) -> float:
    """A number of seconds; a date or nonsense counts as unsaid."""
    return float(text) if _SECONDS.fullmatch(text) else 0.0


async def _body(response: httpx.Response) -> bytes:
    """The body as it came. Nothing unpacks it: that would have no limit."""
    status = response.status_code
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise TroubleError("encoded", status=status)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise TroubleError("too-large", status=status)
    return bytes(body)


def _document(body: bytes, status: int) -> Any:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:  # it holds the whole answer
        raise TroubleError("not-json", status=status) from None
    if not isinstance(document, dict | list):
        raise TroubleError("wrong-type", status=status)
    return document


def _trouble_of(error: httpx.HTTPError) -> TroubleError:
    """The library's error by what lies beneath it; its own classes do not tell DNS, TLS and refusal apart."""
    if isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol):
        return TroubleError("unusable-request")
    if isinstance(error, httpx.TimeoutException):
        return TroubleError("time-out", retriable=True)
    causes = list(_causes(error))
    for kind, reason in _CONNECT_REASONS:
        if any(isinstance(cause, kind) for cause in causes):
            is_final = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)
            return TroubleError(reason, retriable=not is_final)
    return TroubleError("connection", retriable=True)


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
    """Keep the HTTP library from logging URLs and headers, whatever level somebody sets. Doing it twice is once."""
    for name in _HTTP_LOGGERS:
        logging.getLogger(name).addFilter(_is_loud)

"""Every error of aiohttp becomes one of httpx's, and none tells what was asked of whom."""

from __future__ import annotations

import inspect
import socket
import ssl
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from consumers.crm.addresses import ForbiddenAddressError
from consumers.crm.endpoint import trouble_of
from consumers.crm.outcomes import REASONS
from consumers.crm.transport import _NotRepeatedError, _StaleConnectionError, httpx_error

CANARY = "ann.canary"
PLACE = URL(f"http://{CANARY}.example.com/{CANARY}?email={CANARY}")
KEY = ConnectionKey(f"{CANARY}.example.com", 80, is_ssl=False, ssl=True, proxy=None, proxy_auth=None,
                    proxy_headers_hash=None)  # fmt: skip
INFO = RequestInfo(PLACE, "GET", CIMultiDictProxy(CIMultiDict()), PLACE)
CERTIFICATE = ssl.SSLCertVerificationError(1, CANARY)

CASES: list[tuple[Exception, type[httpx.TransportError], str, bool]] = [
    (aiohttp.ConnectionTimeoutError(CANARY), httpx.ConnectTimeout, "time-out", True),
    (aiohttp.SocketTimeoutError(CANARY), httpx.ReadTimeout, "time-out", False),
    (aiohttp.ServerTimeoutError(CANARY), httpx.ReadTimeout, "time-out", False),
    (TimeoutError(CANARY), httpx.ReadTimeout, "time-out", False),
    (aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(-2, CANARY)), httpx.ConnectError, "dns", True),
    (aiohttp.ClientConnectorError(KEY, ConnectionRefusedError(111, CANARY)), httpx.ConnectError, "refused", True),
    (aiohttp.ClientConnectorError(KEY, OSError(113, CANARY)), httpx.ConnectError, "connection", True),
    (aiohttp.ClientConnectorError(KEY, ForbiddenAddressError()), httpx.ConnectError, "forbidden-address", True),
    (aiohttp.ClientProxyConnectionError(KEY, OSError(113, CANARY)), httpx.ConnectError, "connection", True),
    (
        aiohttp.client_exceptions.UnixClientConnectorError(CANARY, KEY, OSError(2, CANARY)),
        httpx.ConnectError,
        "connection",
        True,
    ),
    (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLEOFError(8, CANARY)), httpx.ConnectError, "tls", True),
    (aiohttp.ClientSSLError(KEY, ssl.SSLError(1, CANARY)), httpx.ConnectError, "tls", True),
    (aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE), httpx.ConnectError, "tls", True),
    (aiohttp.ServerFingerprintMismatch(b"a", b"b", CANARY, 1), httpx.ConnectError, "connection", True),
    (aiohttp.ServerDisconnectedError(CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.ServerConnectionError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.ClientOSError(104, CANARY), httpx.ReadError, "connection", False),
    (aiohttp.ClientConnectionResetError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.ClientConnectionError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.ClientPayloadError(CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.ClientResponseError(INFO, (), message=CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.ContentTypeError(INFO, (), message=CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.ClientHttpProxyError(INFO, (), message=CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.WSServerHandshakeError(INFO, (), message=CANARY), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.TooManyRedirects(INFO, ()), httpx.RemoteProtocolError, "connection", False),
    (aiohttp.InvalidURL(PLACE), httpx.UnsupportedProtocol, "unusable-request", True),
    (aiohttp.InvalidUrlClientError(PLACE), httpx.UnsupportedProtocol, "unusable-request", True),
    (aiohttp.InvalidUrlRedirectClientError(PLACE), httpx.UnsupportedProtocol, "unusable-request", True),
    (aiohttp.NonHttpUrlClientError(PLACE), httpx.UnsupportedProtocol, "unusable-request", True),
    (aiohttp.NonHttpUrlRedirectClientError(PLACE), httpx.UnsupportedProtocol, "unusable-request", True),
    (aiohttp.RedirectClientError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.UploadAbortedError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.ClientError(CANARY), httpx.ReadError, "connection", False),
    (aiohttp.http_exceptions.BadStatusLine(CANARY), httpx.RemoteProtocolError, "connection", False),
    (ForbiddenAddressError(), httpx.ConnectError, "forbidden-address", True),
    (socket.gaierror(-2, CANARY), httpx.ConnectError, "dns", True),
    (ssl.SSLError(1, CANARY), httpx.ConnectError, "tls", True),
    (CERTIFICATE, httpx.ConnectError, "tls", True),
    (ConnectionResetError(104, CANARY), httpx.ReadError, "connection", False),
    (OSError(5, CANARY), httpx.ReadError, "connection", False),
    (ValueError(CANARY), httpx.LocalProtocolError, "unusable-request", True),
    (UnicodeDecodeError("ascii", b"", 0, 1, CANARY), httpx.LocalProtocolError, "unusable-request", True),
    (RuntimeError(CANARY), httpx.CloseError, "connection", False),
    (KeyError(CANARY), httpx.NetworkError, "connection", False),
    (_StaleConnectionError(CANARY), httpx.ReadError, "connection", False),
    (_NotRepeatedError(aiohttp.ServerDisconnectedError(CANARY)), httpx.RemoteProtocolError, "connection", False),
    (_NotRepeatedError(aiohttp.ClientOSError(104, CANARY)), httpx.ReadError, "connection", False),
]


@pytest.mark.parametrize(("error", "name", "reason", "unsent"), CASES)
def test_each_error_has_its_name_its_reason_and_no_words_of_its_own(
    *, error: Exception, name: type[httpx.TransportError], reason: str, unsent: bool
) -> None:
    mapped = httpx_error(error)
    assert type(mapped) is name
    trouble = trouble_of(mapped)
    assert (trouble.reason, trouble.unsent) == (reason, unsent)
    assert reason in REASONS
    assert CANARY not in "".join(told(mapped))


def told(error: BaseException | None) -> list[str]:
    """What an error and its chain say."""
    if error is None:
        return []
    own = [str(error), repr(error), repr(error.args), repr(vars(error))]
    return [*own, *told(error.__cause__), *told(error.__context__)]


def test_the_search_finds_a_canary_in_an_errors_chain() -> None:
    """Negative control: the libraries' own errors do tell, as messages and as causes."""
    outer = httpx.ConnectError("x")
    outer.__cause__ = CASES[4][0]
    assert CANARY in "".join(told(outer))


def test_a_certificate_that_is_not_believed_is_no_reason_to_try_again() -> None:
    assert not trouble_of(httpx_error(aiohttp.ClientConnectorCertificateError(KEY, CERTIFICATE))).retriable


def public_errors(module: Any) -> set[type]:
    return {
        one
        for name, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, aiohttp.ClientError) and not name.startswith("_")
    }


def test_no_error_of_aiohttp_is_left_out() -> None:
    """A new version's new errors turn this red, and want a line above."""
    assert public_errors(aiohttp) - {type(error) for error, *_ in CASES} == set()

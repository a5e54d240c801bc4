"""A canary in every place where something secret or personal may stand, pushed through every path of a look-up.

The canaries are an address, an id, a secret, and what the CRM says of the contact. They may stand in the request, and
in the answer's record under the names that the policy gives; nowhere else: no log line of any library at any level, no
error with its chain, no repr, no count, no key or id of a record.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from consumers.crm import client as client_module
from consumers.crm import transport
from consumers.crm.asks import Ask, answer_record
from consumers.crm.client import CrmClient
from consumers.crm.endpoint import Endpoint
from consumers.crm.outcomes import Answered, Failed, LookUp, TroubleError
from consumers.crm.tls import CA_VARIABLE, tls_context
from consumers.secrets import Secrets
from events.log import TopicPartition
from events.topics import ROUTING_LOG
from routing.policy import CrmVariable, Policy
from tests.crm_support import (
    NOW_MS,
    Behaviour,
    Misbehaving,
    Pauses,
    drip,
    hang,
    http,
    keep_saying,
    make_policy,
    reset_after,
    say,
)

ADDRESS = "ann.canary@canary-host.example"
CONTACT = "canary-contact"
SECRET = "canary-s3cret"
SAID = "canary-said"
CANARIES = ("canary", "CANARY", quote(ADDRESS, safe=""))
CERTIFICATES = Path(__file__).parents[1] / "certificates"

ANSWER = orjson.dumps({"customerType": SAID, "manager": SAID})
ECHO = f"{ADDRESS} {CONTACT} {SECRET} {SAID}".encode()
BEHAVIOURS: dict[str, Behaviour] = {
    "answer": say(http("200 OK", ANSWER)),
    "cookie": say(http("200 OK", ANSWER, f"Set-Cookie: a={ADDRESS}; Domain={SECRET}")),
    "not found": say(http("404 No", ECHO)),
    "401": say(http("401 No", ECHO)),
    "500": say(http(f"500 {SAID}", ECHO)),
    "429": say(http("429 Slow", ECHO, f"Retry-After: {SECRET}")),
    "redirect": say(http("302 Found", b"", f"Location: http://{SECRET}/?{ADDRESS}")),
    "no JSON": say(http("200 OK", ECHO)),
    "JSON that ends": say(http("200 OK", ANSWER[:-1])),
    "wrong type": say(http("200 OK", orjson.dumps(SAID))),
    "encoded": say(http("200 OK", ANSWER, f"Content-Encoding: {SECRET}")),
    "too large": say(http("200 OK", b" " * 2_000_000 + ECHO)),
    "too short": say(http("200 OK", ANSWER, length=10_000)),
    "reset": reset_after(ECHO),
    "no HTTP": say(ECHO + b"\r\n\r\n"),
    "no status": say(b"HTTP/1.1 " + ECHO + b"\r\n\r\n"),
    "no header": say(b"HTTP/1.1 200 OK\r\n" + ECHO + b"\r\n\r\n"),
    "long header": say(b"HTTP/1.1 200 OK\r\nX-A: " + ECHO * 1_000 + b"\r\n\r\n"),
    "no chunk": say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + ECHO),
    "surplus": keep_saying(http("200 OK", ANSWER) + ECHO),
    "hang": hang,
    "drip": drip(b"HTTP/1.1 200 OK\r\nX-A: " + ECHO),
}


@pytest.fixture(autouse=True)
def every_log(caplog: pytest.LogCaptureFixture) -> None:
    """Every logger tells everything, those of the libraries too."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "aiohttp.client", "aiohttp.internal", "asyncio", "consumers.crm.client"):
        caplog.set_level(logging.DEBUG, logger=name)


@pytest.fixture
async def client() -> AsyncIterator[CrmClient]:
    asyncio.get_running_loop().set_debug(True)
    secrets = Secrets(environment={"CRM_TOKEN": SECRET})
    tls = tls_context({CA_VARIABLE: str(CERTIFICATES / "ca.pem")})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, sleep=Pauses(), tls=tls) as client:
        yield client


def ask(**changes: Any) -> LookUp:
    values: dict[str, Any] = {
        "workspace": "default", "contact": CONTACT, "conversation": "v-1", "lookup_id": "v-1/2", "email": ADDRESS,
        "deadline_ms": NOW_MS + 5_000,
    }  # fmt: skip
    return LookUp(**{**values, **changes})


def policy(url: str, **crm: Any) -> Policy:
    values: dict[str, Any] = {
        "headers": {"Authorization": "Bearer ${CRM_TOKEN}", "X-Contact": "{contact_id} {email}"},
        "variables": {
            "customer_type": CrmVariable(path="$.customerType", personal=False),
            "manager": CrmVariable(path="$.manager", personal=True),
        },
        "timeout_ms": 300,
        "cache_ms": 60_000,
    }
    return make_policy(f"{url}/{{contact_id}}?email={{email}}", **{**values, **crm})


def told(client: CrmClient, outcome: Answered | Failed, caplog: pytest.LogCaptureFixture) -> str:
    """All that is let out beside the request, and the variables in the answer's record."""
    one = ask()
    reprs = [f(x) for f in (repr, str, lambda x: str(list(x.__rich_repr__()))) for x in (one,)]
    reprs += [repr(outcome), repr(client), repr(client.counts), repr(client.breakers()), repr(client._cache)]
    reprs += [repr(vars(client)), *(repr(endpoint) for endpoint in client._endpoints.values())]
    record = answer_record(
        Ask(TopicPartition(ROUTING_LOG, 0), 7, 2, ask(contact="c-1"), "p", 0, False), outcome, now_ms=NOW_MS
    )
    value = orjson.loads(record.value or b"")
    for place in ("variables", "personal_variables"):
        value["data"].pop(place, None)
    return "\n".join([*reprs, repr(record.key), repr(record.headers), str(value), caplog.text])


def found_in(text: str) -> list[str]:
    """The lines with a canary; this file's own name, which tracebacks have, is none."""
    lines = text.replace(Path(__file__).stem, "").splitlines()
    return [line for line in lines if any(canary in line for canary in CANARIES)]


@pytest.mark.parametrize("name", BEHAVIOURS)
async def test_nothing_is_let_out_whatever_the_crm_does(
    client: CrmClient, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    async with Misbehaving(BEHAVIOURS[name]) as server:
        outcome = await client.look_up(ask(), policy(server.url))
        second = await client.look_up(ask(), policy(server.url))
    assert SECRET.encode() in server.requests[0], "the canaries were there"
    assert quote(ADDRESS, safe="").encode() in server.requests[0]
    await client.close()
    gc.collect()
    assert found_in(told(client, outcome, caplog) + told(client, second, caplog)) == []
    assert found_in("".join(capfd.readouterr())) == []


PLACES = {
    "refused": "http://127.0.0.1:{closed}",
    "dns": "http://canary.invalid",
    "never asked": "http://169.254.169.254",
    "no TLS": "https://127.0.0.1:{plain}",
}


@pytest.mark.parametrize("name", PLACES)
async def test_nothing_is_let_out_where_nobody_can_be_reached(
    client: CrmClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The host stands in the policy and may be told; it is no canary here."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]

    async def no_address(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, f"no address for {ADDRESS}")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_address)
    async with Misbehaving(say(http("200 OK"))) as server:
        url = PLACES[name].format(closed=closed, plain=server.port)
        outcome = await client.look_up(ask(), policy(url))
    assert isinstance(outcome, Failed)
    assert found_in(told(client, outcome, caplog).replace("canary.invalid", "")) == []


@pytest.mark.parametrize("certificate", ["wrong-host.pem", "expired.pem"])
async def test_nothing_is_let_out_where_tls_fails(
    client: CrmClient, caplog: pytest.LogCaptureFixture, certificate: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    async with Misbehaving(say(http("200 OK")), tls=context) as server:
        outcome = await client.look_up(ask(), policy(server.url))
    assert outcome == Failed(reason="tls", attempts=1)
    assert found_in(told(client, outcome, caplog)) == []


async def test_nothing_is_let_out_where_a_request_cannot_be_made(
    client: CrmClient, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = await client.look_up(ask(contact="canary\r\n"), policy("http://127.0.0.1:9"))
    assert outcome == Failed(reason="unusable-request", attempts=0)
    assert found_in(told(client, outcome, caplog)) == []


async def test_nothing_is_let_out_where_a_secret_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    broken = Secrets(environment={"CRM_TOKEN": "canary\r\n"})
    async with CrmClient(clock=lambda: NOW_MS, secrets=broken) as client:
        outcome = await client.look_up(ask(), policy("http://127.0.0.1:9"))
        assert outcome == Failed(reason="missing-secret", attempts=0)
        assert found_in(told(client, outcome, caplog)) == []


async def test_nothing_is_let_out_where_somebody_waits_is_cancelled_or_finds_a_fault(
    client: CrmClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Misbehaving(hang) as server:
        tasks = [asyncio.create_task(client.look_up(ask(), policy(server.url))) for _ in range(3)]
        while not server.requests:  # noqa: ASYNC110  # a server tells nobody
            await asyncio.sleep(0)
        seen = "".join(repr(task) for task in asyncio.all_tasks())
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert (
            found_in(
                seen
                + "".join("".join(traceback.format_exception(one)) for one in ended if isinstance(one, BaseException))
            )
            == []
        )

    def broken(_self: Endpoint, one: LookUp) -> None:
        raise ZeroDivisionError(f"{one.email} {SECRET}")

    monkeypatch.setattr(Endpoint, "request", broken)
    outcome = await client.look_up(ask(), policy("http://127.0.0.1:9"))
    assert outcome == Failed(reason="fault", attempts=0)
    assert found_in(told(client, outcome, caplog)) == []


async def errors_of(client: CrmClient, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> str:
    """Every error that passes inside a look-up, as a traceback with its chain and all that it holds."""
    texts: list[str] = []
    attempt = CrmClient._attempt

    async def noted(self: CrmClient, *arguments: Any) -> Any:
        try:
            return await attempt(self, *arguments)
        except Exception as error:
            one: BaseException | None = error
            texts.extend(traceback.format_exception(error))
            while one is not None:
                texts.append(f"{one!r} {vars(one)}")
                one = one.__cause__ or one.__context__
            raise

    monkeypatch.setattr(client_module.CrmClient, "_attempt", noted)
    async with Misbehaving(behaviour) as server:
        await client.look_up(ask(), policy(server.url))
    return "\n".join(texts)


@pytest.mark.parametrize("name", ["401", "no JSON", "too short", "reset", "no HTTP", "no status", "no header", "hang"])
async def test_no_error_on_the_way_holds_a_canary_in_its_chain(
    client: CrmClient, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    texts = await errors_of(client, monkeypatch, BEHAVIOURS[name])
    assert texts
    assert found_in(texts) == []


async def test_an_error_that_is_handed_on_as_it_is_would_be_found(
    client: CrmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: aiohttp's own errors say what was sent by whom."""

    def handed_on(error: Exception) -> Exception:
        return httpx.RemoteProtocolError(str(error))

    monkeypatch.setattr(transport, "httpx_error", handed_on)
    monkeypatch.setattr("consumers.crm.endpoint.trouble_of", lambda error: TroubleError(str(error)))
    assert found_in(await errors_of(client, monkeypatch, BEHAVIOURS["no HTTP"])) != []


async def test_the_librarys_own_logging_would_be_found(
    client: CrmClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control: without our filter httpx logs each URL."""
    monkeypatch.setattr(logging.getLogger("httpx"), "filters", [])
    async with Misbehaving(BEHAVIOURS["answer"]) as server:
        outcome = await client.look_up(ask(), policy(server.url))
    assert found_in(told(client, outcome, caplog)) != []

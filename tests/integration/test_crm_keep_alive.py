"""A connection serves many contacts, and never hands one contact's answer to another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import pytest

from consumers.crm import endpoint, transport
from consumers.crm.addresses import Guard
from consumers.crm.client import CrmClient
from consumers.crm.outcomes import Answered, Failed
from consumers.crm.tls import tls_context
from consumers.secrets import Secrets
from tests.crm_support import (
    NOW_MS,
    SECRET,
    Behaviour,
    Late,
    Misbehaving,
    Pauses,
    hang,
    http,
    keep_saying,
    make_ask,
    make_policy,
    say,
)

OURS = http("200 OK", b'{"customerType": "regular"}')
THEIRS = http("200 OK", b'{"customerType": "somebody else"}')


@pytest.fixture
async def client() -> AsyncIterator[CrmClient]:
    secrets = Secrets(environment={"CRM_TOKEN": SECRET})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, sleep=Pauses()) as client:
        yield client


async def look_up(client: CrmClient, server: Misbehaving, who: str, **crm: Any) -> Answered | Failed:
    return await client.look_up(make_ask(email=who), make_policy(f"{server.url}/?email={{email}}", **crm))


def customer_type(outcome: Answered | Failed) -> Any:
    assert isinstance(outcome, Answered), outcome
    return outcome.variables["customer_type"]


async def test_one_connection_serves_one_look_up_after_the_other(client: CrmClient) -> None:
    async with Misbehaving(keep_saying(*[OURS] * 5)) as server:
        for number in range(5):
            assert customer_type(await look_up(client, server, f"a{number}@x.co")) == "regular"
    assert server.connections == 1


async def test_a_contact_that_is_not_found_does_not_cost_the_connection(client: CrmClient) -> None:
    async with Misbehaving(keep_saying(http("404 No", b'{"error": "no such contact"}'), OURS)) as server:
        assert isinstance(await look_up(client, server, "a@x.co"), Answered)
        assert customer_type(await look_up(client, server, "b@x.co")) == "regular"
    assert server.connections == 1


async def test_an_answer_whose_rest_never_comes_is_cut_off_and_not_waited_for(client: CrmClient) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http("404 No", b"{", length=50))
        await reader.read()

    async with Misbehaving(half, keep_saying(OURS)) as server:
        assert isinstance(await look_up(client, server, "a@x.co", timeout_ms=60_000), Answered)
        assert customer_type(await look_up(client, server, "b@x.co", timeout_ms=60_000)) == "regular"
    assert server.connections == 2


async def test_a_post_that_must_not_be_repeated_has_a_connection_of_its_own(client: CrmClient) -> None:
    async with Misbehaving(say(OURS)) as server:
        for number in range(3):
            await look_up(client, server, f"a{number}@x.co", method="POST")
    assert server.connections == 3
    assert all(b"Connection: close" in request for request in server.requests)


async def second_answer(client: CrmClient, behaviour: Behaviour, late: Late | None = None) -> Any:
    """What the second contact gets when the first one's answer is followed by another that nobody asked for."""
    async with Misbehaving(behaviour, keep_saying(OURS)) as server:
        await look_up(client, server, "first@x.co")
        if late is not None:
            await late.arrive()
        return customer_type(await look_up(client, server, "second@x.co"))


async def test_what_comes_with_an_answer_is_not_the_next_contacts_answer(client: CrmClient) -> None:
    at_once = keep_saying(OURS + THEIRS)
    assert await second_answer(client, at_once) == "regular"


async def test_what_comes_after_an_answer_is_not_the_next_contacts_answer(client: CrmClient) -> None:
    late = Late()
    assert await second_answer(client, keep_saying(OURS, OURS, after=THEIRS, late=late), late) == "regular"


async def test_a_body_where_none_belongs_is_not_the_next_contacts_answer(client: CrmClient) -> None:
    late = Late()
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert await second_answer(client, keep_saying(answer, OURS, after=THEIRS, late=late), late) == "regular"


async def test_bytes_that_nobody_has_read_yet_keep_a_connection_from_being_used(
    client: CrmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The surplus is still in the operating system when the next request would be sent."""
    late = Late()
    both = keep_saying(OURS, OURS, after=THEIRS, late=late)
    seen: list[bool] = []
    is_readable = transport._is_readable

    def noted(one: asyncio.BaseTransport) -> bool:
        seen.append(is_readable(one))
        return seen[-1]

    monkeypatch.setattr(transport, "_is_readable", noted)
    async with Misbehaving(both, keep_saying(OURS)) as server:
        await look_up(client, server, "first@x.co")
        (connections,) = (one._client._transport._session.connector._conns for one in client._endpoints.values())  # type: ignore[attr-defined]
        ((handler, _),) = next(iter(connections.values()))
        handler.transport.pause_reading()
        await late.arrive()
        assert customer_type(await look_up(client, server, "second@x.co")) == "regular"
    assert seen == [False, True, False]


async def test_without_the_look_before_sending_it_would_be(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: aiohttp alone hands what comes late to the next contact."""
    monkeypatch.setattr(transport, "_CheckedRequest", aiohttp.ClientRequest)
    late = Late()
    assert await second_answer(client, keep_saying(OURS, OURS, after=THEIRS, late=late), late) == "somebody else"


async def test_with_httpxs_own_pool_it_would_be(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control, and a reason for a transport of our own."""
    monkeypatch.setattr(endpoint, "AiohttpTransport", lambda **_: httpx.AsyncHTTPTransport(trust_env=False))
    at_once = keep_saying(OURS + THEIRS, OURS)
    assert await second_answer(client, at_once) == "somebody else"


async def test_a_kept_connection_that_the_server_has_closed_costs_no_attempt(client: CrmClient) -> None:
    async with Misbehaving(say(OURS), keep_saying(OURS)) as server:
        first = await look_up(client, server, "a@x.co")
        second = await look_up(client, server, "b@x.co")
    assert isinstance(first, Answered)
    assert isinstance(second, Answered)
    assert (first.attempts, second.attempts, server.connections) == (1, 1, 2)


async def test_a_request_without_an_answer_is_sent_once_by_attempt(client: CrmClient) -> None:
    """Aiohttp repeats a GET by itself, past attempts and rate; here it may not."""

    async def go(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Close without a word."""

    async with Misbehaving(go) as server:
        failed = await look_up(client, server, "a@x.co", attempts=3)
    assert failed == Failed(reason="connection", attempts=3)
    assert len(server.requests) == 3


async def test_a_pool_without_a_free_connection_says_so() -> None:
    """The transport by itself: its ``pool`` time-out is httpx's, so are the others."""
    own = transport.AiohttpTransport(guard=Guard("127.0.0.1", []), tls=tls_context({}), connections_max=1)
    timeout = httpx.Timeout(connect=5.0, read=0.05, write=None, pool=0.01)
    async with Misbehaving(hang) as server, httpx.AsyncClient(transport=own, timeout=timeout, trust_env=False) as one:
        first, second = await asyncio.gather(one.get(server.url), one.get(server.url), return_exceptions=True)
        assert isinstance(first, httpx.ReadTimeout)
        assert isinstance(second, httpx.PoolTimeout)
        with pytest.raises(httpx.ReadTimeout):
            await one.get(server.url)

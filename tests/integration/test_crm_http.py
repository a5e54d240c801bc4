"""Look-ups against real servers on loopback: one that behaves, and one that does what CRMs do on a bad day."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.crm.client import ENDPOINTS_MAX, CrmClient
from consumers.crm.endpoint import Endpoint
from consumers.crm.outcomes import Answered, Failed, LookUp
from consumers.secrets import Secrets
from routing.policy import CrmVariable
from tests.crm_support import (
    EMAIL,
    NOW_MS,
    SECRET,
    Behaviour,
    Misbehaving,
    Pauses,
    drip,
    hang,
    http,
    make_ask,
    make_policy,
    reset_after,
    say,
)

VIP = http("200 OK", b'{"customerType": "VIP"}')


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(pauses: Pauses) -> AsyncIterator[CrmClient]:
    secrets = Secrets(environment={"CRM_TOKEN": SECRET})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, sleep=pauses, random_fraction=lambda: 0.5) as client:
        yield client


def url_of(server: Misbehaving) -> str:
    return f"{server.url}/v1/contacts?email={{email}}"


async def outcome(client: CrmClient, *behaviours: Behaviour, **crm: Any) -> tuple[Answered | Failed, Misbehaving]:
    async with Misbehaving(*behaviours) as server:
        return await client.look_up(make_ask(), make_policy(url_of(server), **crm)), server


async def test_an_answer_becomes_variables(client: CrmClient) -> None:
    answered, server = await outcome(client, say(VIP))
    assert isinstance(answered, Answered)
    assert (answered.status, answered.variables, answered.attempts) == (200, {"customer_type": "VIP"}, 1)
    assert len(server.requests) == 1


async def test_the_request_is_the_policys_and_nothing_else(client: CrmClient) -> None:
    _, server = await outcome(client, say(VIP))
    lines = server.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /v1/contacts?email=ann.canary%40example.com HTTP/1.1"
    assert sorted(line.lower() for line in lines[1:] if line) == [
        "accept-encoding: identity",
        "accept: application/json",
        f"authorization: bearer {SECRET}",
        f"host: {server.url.removeprefix('http://')}",
        "user-agent: vip-router",
    ]


async def test_what_a_value_brings_along_stays_one_value(client: CrmClient) -> None:
    """Separators, line breaks and placeholders inside an address or id cannot change the request's shape."""
    ask = make_ask(email="a+b&x=1#\r\n@ü.co", contact="c/1?{email}", conversation="${CRM_TOKEN}%2F")
    async with Misbehaving(say(VIP)) as server:
        url = server.url + "/{contact_id}/{conversation_id}?email={email}"
        assert isinstance(await client.look_up(ask, make_policy(url)), Answered)
    assert server.requests[0].split(b" ")[1] == (
        b"/c%2F1%3F%7Bemail%7D/%24%7BCRM_TOKEN%7D%252F?email=a%2Bb%26x%3D1%23%0D%0A%40%C3%BC.co"
    )


async def test_a_body_is_json_escaped_and_filled_once(client: CrmClient) -> None:
    ask = make_ask(email='a"b\\c@x.co', contact="${CRM_TOKEN}{email}")
    body = '{"email":"{email}","id":"{contact_id}","key":"${CRM_TOKEN}"}'
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(server.url, method="POST", body=body)
        assert isinstance(await client.look_up(ask, policy), Answered)
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"content-type: application/json" in head.lower()
    assert orjson.loads(sent) == {"email": 'a"b\\c@x.co', "id": "${CRM_TOKEN}{email}", "key": SECRET}


@pytest.mark.parametrize("contact", ["..", "."])
async def test_an_id_cannot_climb_to_another_resource(client: CrmClient, contact: str) -> None:
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(server.url + "/v1/contacts/{contact_id}")
        assert await client.look_up(make_ask(contact=contact), policy) == Failed(reason="unusable-request", attempts=0)
    assert server.requests == []


async def test_an_id_that_no_url_can_hold_is_refused(client: CrmClient) -> None:
    policy = make_policy("http://127.0.0.1:9/{contact_id}")
    assert await client.look_up(make_ask(contact="\ud800"), policy) == Failed(reason="unusable-request", attempts=0)


@pytest.mark.parametrize(
    ("behaviour", "reason", "status", "attempts"),
    [
        (say(http("500 Oops")), "http-500", 500, 2),
        (say(http("503 Busy")), "http-503", 503, 2),
        (say(http("429 Slow down")), "http-429", 429, 2),
        (say(http("401 Who")), "http-401", 401, 1),
        (say(http("409 Conflict")), "http-409", 409, 1),
        (say(http("301 Moved", b"", "Location: http://169.254.169.254/")), "http-301", 301, 1),
        (say(http("200 OK", b"<html>welcome</html>")), "not-json", None, 1),
        (say(http("200 OK", b'{"customerType": NaN}')), "not-json", None, 1),
        (say(http("200 OK", b'{"customerType": "\xff"}')), "not-json", None, 1),
        (say(http("200 OK", b"[" * 100_000)), "not-json", None, 1),
        (say(http("204 No Content")), "not-json", None, 1),
        (say(http("200 OK", b'"VIP"')), "wrong-type", None, 1),
        (say(http("200 OK", gzip.compress(b"{}"), "Content-Encoding: gzip")), "encoded", None, 1),
        (say(http("200 OK", b" " * 2 * 1024 * 1024)), "too-large", None, 1),
        (say(http("200 OK", b'{"customerType"', length=100)), "connection", None, 2),
        (reset_after(http("200 OK", b'{"customerType"', length=100)), "connection", None, 2),
        (reset_after(b""), "connection", None, 2),
        (say(b"SSH-2.0-OpenSSH_9.2\r\n"), "connection", None, 2),
        (hang, "time-out", None, 2),
        (drip(b"HTTP/1.1 200 OK\r\nX-Slow:"), "time-out", None, 2),
        (drip(http("200 OK", b"{", length=1_000_000)), "time-out", None, 2),
    ],
)
async def test_each_misbehaviour_has_its_reason_and_only_what_may_pass_is_repeated(
    client: CrmClient, behaviour: Behaviour, reason: str, status: int | None, attempts: int
) -> None:
    failed, server = await outcome(client, behaviour, timeout_ms=100 if reason == "time-out" else 2_000)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.attempts) == (reason, attempts)
    assert failed.status == (200 if reason in {"wrong-type", "encoded", "too-large"} else failed.status)
    assert status is None or failed.status == status
    assert len(server.requests) == attempts


async def test_a_redirect_is_not_followed(client: CrmClient) -> None:
    async with Misbehaving(say(VIP)) as elsewhere:
        redirect = say(http("302 Found", b"", f"Location: {elsewhere.url}/"))
        failed, _ = await outcome(client, redirect)
    assert failed == Failed(reason="http-302", status=302, attempts=1)
    assert elsewhere.requests == []


async def test_what_passes_is_answered_in_the_end(client: CrmClient, pauses: Pauses) -> None:
    answered, server = await outcome(client, say(http("503 Busy")), hang, say(VIP), attempts=3, timeout_ms=300)
    assert isinstance(answered, Answered)
    assert (answered.variables, answered.attempts, len(server.requests)) == ({"customer_type": "VIP"}, 3, 3)
    assert pauses.waited_s == [0.05, 0.1]  # half of 100 ms and of 200 ms: full jitter with 0.5


async def test_a_crm_that_asks_to_be_left_alone_is(client: CrmClient, pauses: Pauses) -> None:
    answered, _ = await outcome(client, say(http("429 Slow", b"", "Retry-After: 2")), say(VIP))
    assert isinstance(answered, Answered)
    assert pauses.waited_s == [2.0]


async def test_a_wait_beyond_the_deadline_is_not_begun(client: CrmClient, pauses: Pauses) -> None:
    failed, server = await outcome(client, say(http("429 Slow", b"", "Retry-After: 6")), say(VIP))
    assert failed == Failed(reason="http-429", status=429, attempts=1)
    assert (pauses.waited_s, len(server.requests)) == ([], 1)


@pytest.mark.parametrize("header", ["soon", "-1", "1e9", "Wed, 21 Oct 2020 07:28:00 GMT", "Wed, 99 Oct 2026", ""])
async def test_a_retry_after_that_is_nonsense_or_past_counts_as_unsaid(
    client: CrmClient, pauses: Pauses, header: str
) -> None:
    answered, _ = await outcome(client, say(http("503 Busy", b"", f"Retry-After: {header}")), say(VIP))
    assert isinstance(answered, Answered)
    assert pauses.waited_s == [0.05]


async def test_the_deadline_ends_an_attempt_that_is_under_way(client: CrmClient) -> None:
    async with Misbehaving(hang) as server:
        policy = make_policy(url_of(server), timeout_ms=2_000, attempts=1)
        failed = await client.look_up(make_ask(deadline_ms=NOW_MS + 100), policy)
    assert failed == Failed(reason="deadline", attempts=1)


async def test_a_clock_that_is_behind_does_not_stretch_the_policys_deadline(client: CrmClient) -> None:
    async with Misbehaving(hang) as server:
        policy = make_policy(url_of(server), timeout_ms=2_000, attempts=1, deadline_ms=100)
        failed = await client.look_up(make_ask(deadline_ms=NOW_MS + 3_600_000), policy)
    assert failed == Failed(reason="deadline", attempts=1)


async def test_after_the_deadline_nobody_is_asked(client: CrmClient) -> None:
    async with Misbehaving(say(VIP)) as server:
        failed = await client.look_up(make_ask(deadline_ms=NOW_MS), make_policy(url_of(server)))
    assert failed == Failed(reason="deadline", attempts=0)
    assert server.requests == []


async def test_a_contact_that_the_crm_does_not_know_is_answered_without_variables(client: CrmClient) -> None:
    answered, _ = await outcome(client, say(http("404 Not Found", b"<html>", length=50)))
    assert isinstance(answered, Answered)
    assert (answered.status, answered.variables, answered.notes) == (404, {}, {"customer_type": "missing"})


async def test_a_404_fails_where_the_policy_says_so(client: CrmClient) -> None:
    failed, _ = await outcome(client, say(http("404 Not Found")), not_found="failed")
    assert failed == Failed(reason="http-404", status=404, attempts=1)


async def test_nobody_listening_is_refused(client: CrmClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    failed = await client.look_up(make_ask(), make_policy(f"http://127.0.0.1:{port}/"))
    assert failed == Failed(reason="refused", attempts=2)


async def test_plain_http_where_tls_is_wanted_is_a_tls_failure(client: CrmClient) -> None:
    async def speak_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http("400 Bad Request"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak_first, "127.0.0.1", 0) as server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        failed = await client.look_up(make_ask(), make_policy(url, timeout_ms=2_000))
    assert failed == Failed(reason="tls", attempts=2)


async def test_a_name_without_address_is_a_dns_failure(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_address(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", no_address)
    failed = await client.look_up(make_ask(), make_policy("http://crm.invalid/?email={email}"))
    assert failed == Failed(reason="dns", attempts=2)


async def test_cookies_do_not_travel_from_one_contact_to_the_next(client: CrmClient) -> None:
    async with Misbehaving(say(http("200 OK", b"{}", "Set-Cookie: session=ann; Path=/"))) as server:
        policy = make_policy(url_of(server))
        await client.look_up(make_ask(), policy)
        await client.look_up(make_ask(), policy)
    assert len(server.requests) == 2
    assert all(b"cookie" not in request.lower() for request in server.requests)


async def test_proxies_of_the_environment_are_not_used(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Misbehaving(say(http("500 Proxy"))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("ALL_PROXY", proxy.url)
        answered, _ = await outcome(client, say(VIP))
    assert isinstance(answered, Answered)
    assert proxy.requests == []


async def test_personal_variables_are_returned_apart(client: CrmClient) -> None:
    variables = {
        "customer_type": CrmVariable(path="$.customerType", personal=False),
        "manager": CrmVariable(path="$.owner.email", personal=True),
    }
    body = json.dumps({"customerType": "VIP", "owner": {"email": "boss@example.com"}}).encode()
    answered, _ = await outcome(client, say(http("200 OK", body)), variables=variables)
    assert isinstance(answered, Answered)
    assert answered.variables == {"customer_type": "VIP"}
    assert answered.personal == {"manager": "boss@example.com"}


async def test_a_missing_secret_fails_the_look_up_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    async with CrmClient(clock=lambda: NOW_MS, secrets=Secrets(environment={})) as client, Misbehaving(hang) as server:
        for _ in range(2):
            failed = await client.look_up(make_ask(), make_policy(url_of(server)))
            assert failed == Failed(reason="missing-secret", attempts=0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "${CRM_TOKEN}" in caplog.text
    assert server.requests == []


BEHAVIOURS: list[Behaviour] = [
    say(VIP), say(http("404 No")), say(http("401 No")), say(http("500 No")), say(http("200 OK", EMAIL.encode())),
    say(http("302 Found", b"", f"Location: http://127.0.0.1:9/?{EMAIL}")), reset_after(b"HTTP/1.1"), hang,
    say(EMAIL.encode() + b" " + SECRET.encode() + b"\r\n\r\n"),
]  # fmt: skip


async def told_of_everything(client: CrmClient, caplog: pytest.LogCaptureFixture) -> str:
    """All that a look-up lets out beside its result, over every kind of outcome."""
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "httpcore.http11", "httpcore.connection", "consumers.crm.client"):
        caplog.set_level(logging.DEBUG, logger=name)
    texts = []
    for behaviour in BEHAVIOURS:
        ask = make_ask(contact=EMAIL)
        async with Misbehaving(behaviour) as server:
            result = await client.look_up(ask, make_policy(url_of(server), timeout_ms=300))
        texts += [repr(ask), repr(result), str(ask), str(list(ask.__rich_repr__())), str(list(result.__rich_repr__()))]
    return caplog.text + "".join(texts)


async def test_addresses_and_secrets_are_in_no_log_and_no_repr(
    client: CrmClient, caplog: pytest.LogCaptureFixture
) -> None:
    told = await told_of_everything(client, caplog)
    assert EMAIL not in told
    assert EMAIL.replace("@", "%40") not in told
    assert SECRET not in told


async def test_the_search_for_addresses_finds_them_where_the_library_logs(
    client: CrmClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Negative control of the test above: with the library's logging left on, the address is found."""
    for name in ("httpx", "httpcore.http11"):
        monkeypatch.setattr(logging.getLogger(name), "filters", [])
    told = await told_of_everything(client, caplog)
    assert EMAIL.replace("@", "%40") in told


async def test_a_fault_of_ours_fails_one_look_up_and_tells_no_address(
    client: CrmClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Endpoint, ask: LookUp) -> None:
        raise ZeroDivisionError(f"{ask.email}")

    monkeypatch.setattr(Endpoint, "request", broken)
    failed = await client.look_up(make_ask(), make_policy("http://127.0.0.1:9/"))
    assert failed == Failed(reason="fault", attempts=0)
    assert "ZeroDivisionError at test_crm_http.py:" in caplog.text
    assert EMAIL not in caplog.text


async def test_each_policy_version_has_connections_and_headers_of_its_own(client: CrmClient) -> None:
    async with Misbehaving(say(VIP)) as server:
        for number in range(ENDPOINTS_MAX + 4):
            headers = {"X-Version": str(number)}
            policy = make_policy(url_of(server), headers=headers)
            assert isinstance(await client.look_up(make_ask(), policy), Answered)
    sent = [request.lower().partition(b"x-version: ")[2].partition(b"\r")[0] for request in server.requests]
    assert sent == [str(number).encode() for number in range(ENDPOINTS_MAX + 4)]
    assert len(client._endpoints) == ENDPOINTS_MAX


@pytest.mark.parametrize("refusal", ["401 Who", "403 No"])
async def test_a_secret_that_was_exchanged_is_used_once_the_crm_refuses_the_old_one(
    tmp_path: Path, refusal: str
) -> None:
    token = tmp_path / "CRM_TOKEN"
    token.write_text("first\n")
    secrets = Secrets(environment={}, directory=tmp_path)
    async with (
        CrmClient(clock=lambda: NOW_MS, secrets=secrets) as client,
        Misbehaving(say(VIP), say(http(refusal)), say(VIP), say(VIP), say(http(refusal))) as server,
    ):
        policy = make_policy(url_of(server))
        outcomes = [await client.look_up(make_ask(), policy)]
        token.write_text("second\n")
        outcomes += [await client.look_up(make_ask(), policy) for _ in range(3)]
    assert [type(one) for one in outcomes] == [Answered, Answered, Answered, Failed]
    sent = [request.partition(b"earer ")[2].partition(b"\r")[0] for request in server.requests]
    assert sent == [b"first", b"first", b"second", b"second", b"second"], "the last refusal is the CRM's word"


async def test_look_ups_that_are_refused_together_all_go_on_with_the_new_secret(tmp_path: Path) -> None:
    token = tmp_path / "CRM_TOKEN"
    token.write_text("first\n")

    async def by_token(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(VIP if b"earer second\r" in server.requests[-1] else http("401 Who"))
        await writer.drain()

    async with (
        CrmClient(clock=lambda: NOW_MS, secrets=Secrets(environment={}, directory=tmp_path)) as client,
        Misbehaving(by_token) as server,
    ):
        policy = make_policy(url_of(server))
        first = await client.look_up(make_ask(), policy)
        token.write_text("second\n")
        asks = [make_ask(email=f"ann{number}@example.com") for number in range(20)]
        outcomes = await asyncio.gather(*(client.look_up(ask, policy) for ask in asks))
    assert first == Failed(reason="http-401", status=401, attempts=1)
    assert all(isinstance(one, Answered) for one in outcomes)

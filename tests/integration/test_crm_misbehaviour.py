"""What a CRM can do to a look-up beyond bad answers: TLS, DNS, floods, bombs, and hanging where nobody looks."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.resolver import ThreadedResolver

from consumers.crm.client import CrmClient
from consumers.crm.outcomes import BODY_BYTES_MAX, Answered, Failed
from consumers.crm.tls import CA_VARIABLE, tls_context
from consumers.secrets import Secrets
from consumers.settings import SettingsError
from tests.crm_support import (
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
    say,
)

CERTIFICATES = Path(__file__).parents[1] / "certificates"
VIP = http("200 OK", b'{"customerType": "VIP"}')


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(pauses: Pauses) -> AsyncIterator[CrmClient]:
    secrets = Secrets(environment={"CRM_TOKEN": SECRET})
    tls = tls_context({CA_VARIABLE: str(CERTIFICATES / "ca.pem")})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, sleep=pauses, tls=tls) as client:
        yield client


async def outcome(client: CrmClient, behaviour: Behaviour, **crm: Any) -> tuple[Answered | Failed, Misbehaving]:
    async with Misbehaving(behaviour) as server:
        return await client.look_up(make_ask(), make_policy(f"{server.url}/?email={{email}}", **crm)), server


# --- answers ---


@pytest.mark.parametrize(
    "before", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3]
)
async def test_what_a_server_says_before_its_answer_is_no_answer(client: CrmClient, before: bytes) -> None:
    answered, _ = await outcome(client, say(before + VIP))
    assert isinstance(answered, Answered)
    assert answered.variables == {"customer_type": "VIP"}


async def test_a_server_that_only_ever_announces_its_answer_is_out_of_time(client: CrmClient) -> None:
    async def announce(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    failed, _ = await outcome(client, announce, timeout_ms=100)
    assert failed == Failed(reason="time-out", attempts=2)


async def test_a_server_that_wants_another_protocol_is_refused(client: CrmClient) -> None:
    upgrade = say(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    failed, _ = await outcome(client, upgrade, timeout_ms=300)
    assert failed == Failed(reason="http-101", status=101, attempts=1)


async def test_of_a_key_that_stands_twice_the_last_value_counts(client: CrmClient) -> None:
    answered, _ = await outcome(client, say(http("200 OK", b'{"customerType": "VIP", "customerType": "regular"}')))
    assert isinstance(answered, Answered)
    assert answered.variables == {"customer_type": "regular"}


@pytest.mark.parametrize("body", [b"null", b" null ", b"7", b"true"])
async def test_json_that_is_no_document_is_of_the_wrong_type(client: CrmClient, body: bytes) -> None:
    failed, _ = await outcome(client, say(http("200 OK", body)))
    assert failed == Failed(reason="wrong-type", status=200, attempts=1)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "br", "zstd", "deflate", "x-unknown"])
async def test_nothing_is_unpacked_so_that_no_bomb_goes_off(client: CrmClient, encoding: str) -> None:
    bomb = gzip.compress(gzip.compress(b" " * 10_000_000))
    failed, _ = await outcome(client, say(http("200 OK", bomb, f"Content-Encoding: {encoding}")))
    assert failed == Failed(reason="encoded", status=200, attempts=1)


async def test_an_answer_of_100_mb_is_cut_off_at_its_first(client: CrmClient) -> None:
    sent = [0]

    async def flood(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while sent[0] < 100_000_000:
            writer.write(b" " * 100_000)
            await writer.drain()
            sent[0] += 100_000

    failed, _ = await outcome(client, flood)
    assert failed == Failed(reason="too-large", status=200, attempts=1)
    assert sent[0] < 10 * BODY_BYTES_MAX, "what is more than what fits into the buffers on the way was never sent"


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 10_000, b"HTTP/1.1 200 OK\r\nX-A: " + b"b" * 100_000 + b"\r\n"]
)
async def test_a_head_without_end_is_cut_off(client: CrmClient, head: bytes) -> None:
    failed, _ = await outcome(client, say(head, b"\r\n"))
    assert failed == Failed(reason="connection", attempts=2)


async def test_a_chunk_that_is_no_chunk_breaks_the_answer(client: CrmClient) -> None:
    broken = say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")
    failed, _ = await outcome(client, broken)
    assert failed == Failed(reason="connection", attempts=2)


async def test_a_date_says_how_long_to_leave_the_crm_alone(client: CrmClient, pauses: Pauses) -> None:
    busy = http("429 Slow", b"", "Date: Tue, 14 Nov 2023 23:00:00 GMT", "Retry-After: Tue, 14 Nov 2023 23:00:03 GMT")
    failed, _ = await outcome(client, say(busy), attempts=2, deadline_ms=4_000)
    assert isinstance(failed, Failed)
    assert pauses.waited_s == [3.0]


# --- connections ---


@contextmanager
def full_server() -> Iterator[str]:
    """A port whose queue of connections is full: a further one hangs before it is made."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        place = server.getsockname()
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(place)
        yield f"http://127.0.0.1:{place[1]}/"


async def test_a_connection_that_is_never_made_is_out_of_time(client: CrmClient) -> None:
    with full_server() as url:
        failed = await client.look_up(make_ask(), make_policy(url, timeout_ms=200))
    assert failed == Failed(reason="time-out", attempts=2)


@pytest.mark.parametrize(
    "behaviour", [hang, drip(b"HTTP/1.1 200 OK\r\nX-A: "), drip(http("200 OK", b"{", length=999_999))]
)
async def test_however_slow_a_crm_is_the_deadline_ends_it(client: CrmClient, behaviour: Behaviour) -> None:
    async with Misbehaving(behaviour) as server:
        policy = make_policy(server.url, timeout_ms=60_000, deadline_ms=60_000, attempts=1)
        failed = await client.look_up(make_ask(deadline_ms=NOW_MS + 150), policy)
    assert failed == Failed(reason="deadline", attempts=1)


# --- headers ---


async def test_a_header_holds_what_the_policy_puts_there(client: CrmClient) -> None:
    async with Misbehaving(say(VIP)) as server:
        headers = {"X-Contact": "{contact_id} <{email}>", "Authorization": "Bearer ${CRM_TOKEN}"}
        policy = make_policy(server.url, headers=headers)
        assert isinstance(await client.look_up(make_ask(contact="c-ü", email="${CRM_TOKEN}"), policy), Answered)
    assert "x-contact: c-ü <${CRM_TOKEN}>\r\n".encode() in server.requests[0]
    assert f"authorization: Bearer {SECRET}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    "contact", ["c\r\nX-Evil: 1", "c\nd", "c\rd", "c\0d", "c\x7fd", "c\x85d", "c\u2028d", "\ud800"]
)
async def test_a_value_cannot_bring_a_header_along(client: CrmClient, contact: str) -> None:
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(server.url, headers={"X-Contact": "{contact_id}"})
        assert await client.look_up(make_ask(contact=contact), policy) == Failed(reason="unusable-request", attempts=0)
    assert server.requests == []


@pytest.mark.parametrize(
    "contact",
    ["..", ".", "../admin", "a/../../admin", "..\\admin", "%2e%2e", "%2e%2e/admin", "a/./b", "..%2fadmin"],
)
async def test_an_id_leads_to_no_other_resource_however_it_is_written(client: CrmClient, contact: str) -> None:
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(server.url + "/v1/contacts/{contact_id}")
        failed = await client.look_up(make_ask(contact=contact), policy)
    assert (failed, server.requests) == (Failed(reason="unusable-request", attempts=0), [])


@pytest.mark.parametrize("contact", ["@evil.example", "//evil.example/", ":80", "#", "?a=b", "a b", "..c", "c..", ""])
async def test_an_id_stays_at_its_place_in_the_url(client: CrmClient, contact: str) -> None:
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(server.url + "/v1/contacts/{contact_id}")
        assert isinstance(await client.look_up(make_ask(contact=contact), policy), Answered)
    assert server.requests[0].startswith(b"GET /v1/contacts/")
    assert server.requests[0].split(b" ")[1].count(b"/") == 3


# --- TLS ---


def showing(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / certificate)
    return context


async def over_tls(client: CrmClient, certificate: str) -> Answered | Failed:
    async with Misbehaving(say(VIP), tls=showing(certificate)) as server:
        asked = await client.look_up(make_ask(), make_policy(f"{server.url}/?email={{email}}"))
        assert bool(server.requests) == isinstance(asked, Answered)
        return asked


async def test_ones_own_authority_is_believed(client: CrmClient) -> None:
    answered = await over_tls(client, "good.pem")
    assert isinstance(answered, Answered), answered


@pytest.mark.parametrize("certificate", ["wrong-host.pem", "expired.pem"])
async def test_a_certificate_of_another_host_or_time_is_not_believed(client: CrmClient, certificate: str) -> None:
    """Nothing is sent, and nothing is tried again."""
    assert await over_tls(client, certificate) == Failed(reason="tls", attempts=1)


async def test_an_authority_that_nobody_named_is_not_believed() -> None:
    secrets = Secrets(environment={"CRM_TOKEN": SECRET})
    async with CrmClient(clock=lambda: NOW_MS, secrets=secrets, tls=tls_context({})) as client:
        assert await over_tls(client, "good.pem") == Failed(reason="tls", attempts=1)


@pytest.mark.parametrize("name", ["make.sh", "missing.pem", ""])
def test_an_authority_file_that_cannot_be_used_is_named(name: str) -> None:
    with pytest.raises(SettingsError, match=rf"{CA_VARIABLE}: .*{name}: .*PEM file"):
        tls_context({CA_VARIABLE: str(CERTIFICATES / name)})


# --- addresses ---


class Names:
    """Stands for the system's resolver; the addresses of a name may change from one question to the next."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self._answers = list(answers)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._getaddrinfo)

    async def _getaddrinfo(self, _host: str, port: int, **_options: Any) -> Any:
        address = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]


async def test_a_name_is_no_way_around_the_guard(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "127.0.0.1")
    async with Misbehaving(say(VIP)) as server:
        failed = await client.look_up(make_ask(), make_policy(f"http://crm.example.com:{server.port}/"))
    assert failed == Failed(reason="forbidden-address", attempts=1)
    assert server.connections == 0


async def test_a_listed_network_lets_a_name_through(client: CrmClient, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "127.0.0.1")
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(f"http://crm.example.com:{server.port}/", allow_networks=("127.0.0.0/8",))
        assert isinstance(await client.look_up(make_ask(), policy), Answered)
    assert f"Host: crm.example.com:{server.port}".encode() in server.requests[0]


@pytest.mark.parametrize("second", ["169.254.169.254", "127.0.0.2", "10.0.0.1"])
async def test_a_name_whose_address_changes_is_judged_by_the_address_that_is_connected_to(
    client: CrmClient, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """DNS rebinding: the first answer is harmless, the second is not."""
    monkeypatch.setattr("consumers.crm.transport.DNS_CACHE_S", 0)
    Names(monkeypatch, "127.0.0.1", second)
    async with Misbehaving(say(VIP)) as server:
        policy = make_policy(f"http://crm.example.com:{server.port}/", allow_networks=("127.0.0.1/32",))
        assert isinstance(await client.look_up(make_ask(email="a@x.co"), policy), Answered)
        failed = await client.look_up(make_ask(email="b@x.co"), policy)
    assert failed == Failed(reason="forbidden-address", attempts=1)
    assert server.connections == 1


async def test_the_guard_judges_sockets_even_where_the_resolver_lets_all_through(
    client: CrmClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two locks: without the look at names, the look at the socket's address refuses too."""
    monkeypatch.setattr("consumers.crm.transport.GuardedResolver", lambda _guard: ThreadedResolver())
    Names(monkeypatch, "127.0.0.1")
    async with Misbehaving(say(VIP)) as server:
        failed = await client.look_up(make_ask(), make_policy(f"http://crm.example.com:{server.port}/"))
    assert (failed, server.connections) == (Failed(reason="forbidden-address", attempts=1), 0)


@pytest.mark.parametrize("host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "0.0.0.0"])
async def test_an_address_that_is_never_asked_is_not_even_where_the_url_names_it(client: CrmClient, host: str) -> None:
    failed = await client.look_up(make_ask(), make_policy(f"http://{host}/", timeout_ms=500))
    assert failed == Failed(reason="forbidden-address", attempts=1)


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1"])
async def test_an_address_in_disguise_is_refused(client: CrmClient, host: str) -> None:
    async with Misbehaving(say(VIP)) as server:
        failed = await client.look_up(make_ask(), make_policy(f"http://{host}:{server.port}/", timeout_ms=500))
    assert (type(failed), server.connections) == (Failed, 0)
    assert getattr(failed, "reason", "") in {"unusable-request", "forbidden-address"}

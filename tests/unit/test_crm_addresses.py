"""Which addresses a look-up may connect to: by what is really connected to, never by the name alone."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from consumers.crm.addresses import ForbiddenAddressError, Guard, GuardedResolver
from routing.crm_networks import parse_network

METADATA = ["169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16"]
NEVER = [
    *METADATA, "169.254.0.1", "fe80::1", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255",
    "240.0.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "not an address", "",
]  # fmt: skip
NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "::1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "198.18.0.1",
    "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1",
]  # fmt: skip
PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"]
EVERYTHING = [parse_network("0.0.0.0/0"), parse_network("::/0")]


def guard(host: str = "crm.example.com", *networks: str) -> Guard:
    return Guard(host, [parse_network(text) for text in networks])


@pytest.mark.parametrize("address", NEVER)
def test_some_addresses_are_refused_whatever_a_policy_says(address: str) -> None:
    assert not Guard(address, EVERYTHING).allows(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_what_is_not_public_is_refused_unless_the_policy_lists_it(address: str) -> None:
    assert not guard().allows(address)
    assert Guard("crm.example.com", EVERYTHING).allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    assert guard().allows(address)


def test_an_address_in_the_url_allows_itself_and_no_other() -> None:
    assert guard("10.1.2.3").allows("10.1.2.3")
    assert not guard("10.1.2.3").allows("10.1.2.4")
    assert guard("::1").allows("::1")
    assert not guard("10.1.2.3").allows("::ffff:169.254.169.254")


def test_localhost_is_loopback_and_nothing_else() -> None:
    assert guard("localhost").allows("127.0.0.1")
    assert guard("LOCALHOST").allows("::1")
    assert guard("crm.localhost").allows("127.0.0.1")
    assert not guard("localhost").allows("10.0.0.1")
    assert not guard("localhost.example.com").allows("127.0.0.1")


def test_a_listed_network_allows_what_is_in_it() -> None:
    allowed = guard("crm.internal", "10.0.0.0/8", "fd00::/8")
    assert allowed.allows("10.200.0.1")
    assert allowed.allows("fd12::1")
    assert not allowed.allows("192.168.0.1")
    assert not allowed.allows("fd00:ec2::254")


def test_a_socket_is_made_for_an_allowed_address_alone() -> None:
    with guard("127.0.0.1").make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))) as made:
        assert made.family is socket.AF_INET
    with pytest.raises(ForbiddenAddressError) as caught:
        guard("127.0.0.1").make_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.9.8.7", 80)))
    assert "10.9.8.7" not in str(caught.value)


async def resolved(monkeypatch: pytest.MonkeyPatch, guard: Guard, *addresses: str) -> list[str]:
    """What is left of the addresses that the system says a name has."""

    async def getaddrinfo(*_args: Any, **_options: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    resolver = GuardedResolver(guard)
    try:
        return [one["host"] for one in await resolver.resolve("crm.example.com", 443)]
    finally:
        await resolver.close()


async def test_of_a_names_addresses_the_allowed_ones_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await resolved(monkeypatch, guard(), "10.0.0.1", "93.184.216.34", "169.254.169.254") == ["93.184.216.34"]


async def test_a_name_that_has_forbidden_addresses_only_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ForbiddenAddressError):
        await resolved(monkeypatch, guard(), "169.254.169.254", "127.0.0.1")


@pytest.mark.parametrize("text", ["10.0.0.0/8", "fd00::/8", "192.168.7.7", " 10.0.0.0/8 "])
def test_networks_and_single_addresses_are_read(text: str) -> None:
    assert str(parse_network(text)).startswith(text.strip().partition("/")[0])


@pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "crm", "", "10.0.0.0/8, 11.0.0.0/8", "1" * 60])
def test_what_is_no_network_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="write a network"):
        parse_network(text)


@pytest.mark.parametrize("text", ["169.254.0.0/16", "169.254.169.254", "fe80::/64", "224.0.0.0/8", "fd00:ec2::254"])
def test_a_network_that_is_never_asked_cannot_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="never asked"):
        parse_network(text)

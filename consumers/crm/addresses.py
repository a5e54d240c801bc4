"""Which addresses a look-up may connect to: the guard against requests into places that are not the CRM.

``Guard`` is asked with the address that is about to be connected to, so a name whose address changes between a check
and its use (DNS rebinding) gains nothing. What the policy may say of it is checked by ``routing/crm_checks.py``.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from routing.crm_networks import Network, is_never_asked

Address: TypeAlias = IPv4Address | IPv6Address
AddressInfo: TypeAlias = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]

_NAT64: Final = IPv6Network("64:ff9b::/96")  #: RFC 6052
_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class ForbiddenAddressError(OSError):
    """The host is at an address that must not be asked. Names none."""

    def __init__(self) -> None:
        super().__init__("the address must not be connected to")


class Guard:
    """Which addresses one policy's look-ups may connect to.

    Link-local, multicast and reserved ones and those of cloud metadata services never; other addresses that are not
    public only if ``host``, which stands in the policy's URL, is that address (``localhost``: loopback), or if one of
    ``networks`` holds it.
    """

    def __init__(self, host: str, networks: Sequence[Network]) -> None:
        self._networks = (*networks, *_named_by(host))

    def allows(self, text: str) -> bool:
        """Whether this address, as the socket gets it, may be connected to."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return False
        inner = _inner(address)
        if any(is_never_asked(one) for one in (address, *inner)):
            return False
        if any(address in network for network in self._networks if network.version == address.version):
            return True
        return address.is_global and all(one.is_global for one in inner)

    def make_socket(self, info: AddressInfo) -> socket.socket:
        """A socket for an address that may be connected to; else raises ``ForbiddenAddressError``."""
        family, kind, protocol, _, place = info
        if not self.allows(str(place[0])):
            raise ForbiddenAddressError
        return socket.socket(family=family, type=kind, proto=protocol)


class GuardedResolver(AbstractResolver):
    """Looks names up as the system does and leaves out the addresses that must not be connected to."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be connected to; ``ForbiddenAddressError`` if there are none but others."""
        found = await self._resolver.resolve(host, port, family)
        allowed = [one for one in found if self._guard.allows(one["host"])]
        if found and not allowed:
            raise ForbiddenAddressError
        return allowed

    async def close(self) -> None:
        """Nothing is held open."""
        await self._resolver.close()


def _named_by(host: str) -> tuple[Network, ...]:
    """What the URL's host allows by naming it: itself, if it is an address."""
    name = host.strip("[]").casefold()
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return _LOOPBACK
    try:
        return (ip_network(name.partition("%")[0]),)
    except ValueError:
        return ()


def _inner(address: Address) -> tuple[IPv4Address, ...]:
    """The IPv4 addresses that an IPv6 address leads to."""
    if isinstance(address, IPv4Address):
        return ()
    teredo = address.teredo
    embedded = [address.ipv4_mapped, address.sixtofour, *(teredo or ())]
    if address in _NAT64:
        embedded.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(one for one in embedded if one is not None)

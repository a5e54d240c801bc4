"""Networks as ``crm.allow_networks`` names them, and the addresses that no policy can allow."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

Network: TypeAlias = IPv4Network | IPv6Network

#: Link-local (the metadata service of most clouds is there), this host, multicast, reserved, and the metadata services
#: and host agents that stand elsewhere: AWS and Google on IPv6, Alibaba, Oracle, Azure.
NEVER_ASKED: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16", "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4",
        "fe80::/10", "::/128", "ff00::/8",
        "fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
    )
)  # fmt: skip


def is_never_asked(address: IPv4Address | IPv6Address) -> bool:
    """Whether no policy can allow this address."""
    return any(address in network for network in NEVER_ASKED if network.version == address.version)


def parse_network(text: str) -> Network:
    """A network such as ``10.0.0.0/8`` or one address; raises ``ValueError`` with a sentence."""
    try:
        network = ip_network(text.strip(), strict=True)
    except ValueError:
        raise ValueError(
            'write a network such as "10.0.0.0/8" or "fd00::/8", without host bits, or one address'
        ) from None
    if any(_holds(never, network) for never in NEVER_ASKED):
        raise ValueError("link-local, multicast and metadata addresses are never asked, so it has no effect")
    return network


def _holds(outer: Network, inner: Network) -> bool:
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)

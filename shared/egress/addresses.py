"""Which network addresses and ports a fetch may connect to: globally reachable unicast addresses, on the web's ports.

Names and spellings are not judged (`127.1`, `0x7f000001` and circled digits all lead to 127.0.0.1); the addresses they
resolve to are. The caller must then connect to exactly these addresses: resolving again lets the name change in between
(DNS rebinding). `ipaddress.is_global` alone is not enough: in Python 3.11 it is True for multicast, site-local and the
IPv6 forms that carry an IPv4 address (NAT64, 6to4). The rules follow Stripe's smokescreen and the IANA special-purpose
registries.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from shared.errors import ErrorKind, PermanentError, TransientError

# What the registries list and older `ipaddress` tables do not.
_FURTHER_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
    IPv6Network("3fff::/20"),  # documentation
)
# Addresses of the open internet by their numbers, and yet a cloud's own services, which answer to its machines alone:
# there they hand out credentials, configuration and name records.
_OF_CLOUDS: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("168.63.129.16/32"),  # Azure's host agent and resolver
    IPv4Network("192.80.8.124/32"),  # Equinix Metal's metadata
    IPv4Network("161.26.0.0/16"),  # IBM Cloud's private services
    IPv4Network("166.8.0.0/14"),  # the same
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")

# What allow_private_hosts lets pass: this machine, and networks of one's own (RFC 1918, RFC 4193).
_OWN_NETWORKS: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("127.0.0.0/8"),
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("::1/128"),
    IPv6Network("fc00::/7"),
)
# Within fc00::/7, and yet nobody's videos: where three clouds hand their machines' credentials out.
_CREDENTIALS = (IPv6Network("fd00:ec2::/32"), IPv6Network("fd20:ce::/32"), IPv6Network("fd00:42::/32"))

# The attribute of an address that says what it is, with the words for it; the first that holds is named.
_KINDS = (
    ("is_unspecified", "the unspecified address"),
    ("is_loopback", "a loopback address"),
    ("is_link_local", "a link-local address"),
    ("is_multicast", "a multicast address"),
    ("is_private", "a private address"),
    ("is_reserved", "a reserved address"),
)


@dataclass(frozen=True)
class Reach:
    """How far a fetch may go.

    allow_private_hosts: to loopback and private networks too, on every port: what listens there, the one who allows
        it knows, and home servers of videos listen anywhere. Other special addresses stay refused: a cloud's machine
        gets its credentials from a link-local one.
    ports: of hosts on the open internet; None for every port.
    """

    allow_private_hosts: bool = False
    ports: frozenset[int] | None = frozenset({80, 443})


def refusal(address: IPv4Address | IPv6Address) -> str | None:
    """What speaks against connecting to this address, in a few words; None when nothing does."""
    carried = list(_carried_ipv4(address)) if isinstance(address, IPv6Address) else []
    if carried:
        return next((reason for inner in carried if (reason := refusal(inner))), None)
    if any(address in network for network in _OF_CLOUDS):
        return "an address of a cloud's own services"
    for attribute, words in _KINDS:
        if getattr(address, attribute):
            return words
    if any(address in network for network in _FURTHER_NETWORKS):
        return "a reserved address"
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return "not a global unicast address"
    return None if address.is_global else "not a globally reachable address"


def is_own(address: IPv4Address | IPv6Address) -> bool:
    """Whether this is an address of this machine or of a private network, and not one that hands out credentials."""
    carried = list(_carried_ipv4(address)) if isinstance(address, IPv6Address) else []
    if carried:
        return all(is_own(inner) or refusal(inner) is None for inner in carried)
    if any(address in network for network in _CREDENTIALS):
        return False
    return any(address in network for network in _OWN_NETWORKS)


def _carried_ipv4(address: IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses a packet to this IPv6 address may end up at."""
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
    if address in _NAT64:
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def checked_addresses(host: str, port: int, reach: Reach) -> list[str]:
    """Resolve a host and judge every address it has; what comes back may be connected to, in this order.

    One refused address refuses the host: a name with a public and a private address is an attack or a mistake. Blocks
    for as long as the system's resolver does.

    Raises TransientError(UNREACHABLE) when there is no answer, PermanentError(PRIVATE_ADDRESS or UNSUPPORTED_URL) when
    the address or the port is refused.
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TransientError(
            ErrorKind.UNREACHABLE, f"The host name {host} could not be resolved ({reason}); check its spelling."
        ) from error
    addresses = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in answers))
    for text in addresses:
        address = ip_address(text)
        reason = refusal(address)
        if reason and not is_own(address):
            raise PermanentError(
                ErrorKind.PRIVATE_ADDRESS,
                f"{host} leads to {text}, {reason}, and such addresses are never fetched from; "
                "submit an address on the open internet.",
            )
        if reason and not reach.allow_private_hosts:
            raise PermanentError(
                ErrorKind.PRIVATE_ADDRESS,
                f"{host} leads to {text}, {reason}, and such addresses are not fetched from; "
                "set REELMAP_ALLOW_PRIVATE_HOSTS=1 if the videos are on your own network.",
            )
        if not reason and reach.ports is not None and port not in reach.ports:
            raise PermanentError(
                ErrorKind.UNSUPPORTED_URL,
                f"{host} is not fetched from on port {port}, only on {_listed(reach.ports)}; "
                "add the port to REELMAP_FETCH_PORTS if videos are served there.",
            )
    return addresses


def _listed(ports: frozenset[int]) -> str:
    return ", ".join(str(port) for port in sorted(ports)) or "none"

from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from shared.egress.addresses import Reach, checked_addresses, refusal
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError


@pytest.mark.parametrize(
    ("reason", "addresses"),
    [
        ("the unspecified address", "0.0.0.0 :: ::ffff:0.0.0.0"),
        ("a loopback address", "127.0.0.1 127.255.255.255 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1 2002:7f00:1::"),
        ("a link-local address", "169.254.169.254 fe80::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe::"),
        ("a multicast address", "224.0.0.1 239.255.255.255 ff02::1 ff0e::1"),
        ("a private address", "0.1.2.3 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 192.0.0.1 192.0.2.1 198.18.0.1"),
        ("a private address", "198.51.100.1 203.0.113.1 240.0.0.1 255.255.255.255 fc00::1 fd12:3456::1 2001:db8::1"),
        ("a private address", "100::1 2001:2::1 ::ffff:10.0.0.1 2002:a00:1::1"),
        ("a loopback address", "2001:0:7f00:1:: 2001:0:808:808:0:0:80ff:fffe"),  # Teredo server, Teredo client
        ("a reserved address", "192.88.99.1 ::7f00:1"),
        ("not a global unicast address", "fec0::1"),
        ("not a globally reachable address", "100.64.0.1 100.127.255.255"),
    ],
)
def test_addresses_that_do_not_lead_to_the_open_internet_are_refused(reason: str, addresses: str) -> None:
    assert {address: refusal(ip_address(address)) for address in addresses.split()} == dict.fromkeys(
        addresses.split(), reason
    )


@pytest.mark.parametrize(
    "address", ["64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "2001::1", "3fff::1", "5f00::1", "192.0.0.170"]
)
def test_addresses_that_python_versions_class_differently_are_refused_all_the_same(address: str) -> None:
    assert refusal(ip_address(address)) is not None


@pytest.mark.parametrize(
    "addresses",
    [
        "1.1.1.1 8.8.8.8 93.184.216.34 172.32.0.1 100.128.0.1 169.253.1.1",
        "2606:4700:4700::1111 2a00:1450:4001::1 ::ffff:8.8.8.8 64:ff9b::808:808 2002:808:808::1",
    ],
)
def test_public_addresses_may_be_connected_to(addresses: str) -> None:
    assert [refusal(ip_address(address)) for address in addresses.split()] == [None] * len(addresses.split())


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "::1"])
def test_every_spelling_of_loopback_is_refused_and_the_setting_is_named(host: str) -> None:
    with pytest.raises(PermanentError, match="REELMAP_ALLOW_PRIVATE_HOSTS") as caught:
        checked_addresses(host, 80, Reach())
    assert caught.value.kind is ErrorKind.PRIVATE_ADDRESS


def test_the_setting_lets_loopback_pass() -> None:
    assert checked_addresses("127.1", 80, Reach(allow_private_hosts=True)) == ["127.0.0.1"]


OWN = (
    "127.0.0.1 10.0.0.1 172.31.255.255 192.168.1.1 ::1 fc00::1 fd12:3456::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 "
    "64:ff9b::c0a8:101 2002:7f00:1:: 2001:0:808:808:0:0:80ff:fffe"
)
# Of machines' credentials, unspecified, multicast, reserved, shared within a provider; and as IPv6 carries them.
NEVER = (
    "169.254.169.254 fe80::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 2002:a9fe:a9fe:: 2001:0:a9fe:a9fe:: "
    "fd00:ec2::254 fd20:ce::254 fd00:42::42 168.63.129.16 ::ffff:168.63.129.16 64:ff9b::a83f:8110 192.80.8.124 "
    "161.26.0.10 166.8.0.1 166.11.255.255 "
    "0.0.0.0 :: ::ffff:0.0.0.0 0.1.2.3 224.0.0.1 ff02::1 240.0.0.1 255.255.255.255 "
    "192.0.0.1 192.0.2.1 198.18.0.1 192.88.99.1 100.100.100.200 ::7f00:1 fec0::1 2001:db8::1 "
    # A Teredo client at 127.0.0.1 whose server is 169.254.169.254.
    "2001:0:a9fe:a9fe:0:0:80ff:fffe"
)


@pytest.mark.parametrize("address", OWN.split())
def test_the_setting_lets_this_machine_and_private_networks_pass(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, address)
    assert checked_addresses("home.example", 8080, Reach(allow_private_hosts=True)) == [address]
    with pytest.raises(PermanentError, match="REELMAP_ALLOW_PRIVATE_HOSTS"):
        checked_addresses("home.example", 8080, Reach())


@pytest.mark.parametrize("address", NEVER.split())
@pytest.mark.parametrize("is_allowed", [True, False])
def test_other_special_addresses_stay_refused_and_the_setting_is_not_recommended(
    address: str, is_allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, address)
    with pytest.raises(
        PermanentError, match="are never fetched from; submit an address on the open internet"
    ) as caught:
        checked_addresses("cloud.example", 80, Reach(allow_private_hosts=is_allowed))
    assert caught.value.kind is ErrorKind.PRIVATE_ADDRESS
    assert "REELMAP_" not in caught.value.message


def test_one_address_of_credentials_among_private_ones_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "10.0.0.1", "169.254.169.254")
    with pytest.raises(PermanentError, match=r"169\.254\.169\.254, a link-local address"):
        checked_addresses("mixed.example", 80, Reach(allow_private_hosts=True))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)


def test_one_private_address_among_public_ones_refuses_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(PermanentError, match=r"10\.0\.0\.1, a private address"):
        checked_addresses("mixed.example", 80, Reach())


@pytest.mark.parametrize("port", [21, 22, 25, 6379, 8080, 5432])
def test_ports_beside_the_web_are_refused_and_the_setting_is_named(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """T6"""
    resolve_to(monkeypatch, "8.8.8.8")
    with pytest.raises(PermanentError, match=f"on port {port}, only on 80, 443; .*REELMAP_FETCH_PORTS") as caught:
        checked_addresses("public.example", port, Reach())
    assert caught.value.kind is ErrorKind.UNSUPPORTED_URL


@pytest.mark.parametrize("ports", [frozenset({8080}), None])
def test_the_setting_lets_ports_pass(ports: frozenset[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "8.8.8.8")
    assert checked_addresses("public.example", 8080, Reach(ports=ports)) == ["8.8.8.8"]


def test_private_hosts_that_may_be_fetched_from_may_listen_anywhere_but_public_ones_may_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve_to(monkeypatch, "10.0.0.1")
    assert checked_addresses("inside.example", 8080, Reach(allow_private_hosts=True)) == ["10.0.0.1"]
    resolve_to(monkeypatch, "10.0.0.1", "8.8.8.8")
    with pytest.raises(PermanentError, match="REELMAP_FETCH_PORTS"):
        checked_addresses("mixed.example", 8080, Reach(allow_private_hosts=True))


@pytest.mark.parametrize("host", ["a\0b", "a" * 64 + ".example", "..", "\udcff", ""])
def test_a_host_that_no_resolver_takes_has_no_address(host: str) -> None:
    with pytest.raises(ReelmapError):
        checked_addresses(host, 80, Reach())


def test_a_name_without_an_answer_may_get_one_later() -> None:
    with pytest.raises(TransientError, match="could not be resolved") as caught:
        checked_addresses("nowhere.invalid", 80, Reach())
    assert caught.value.kind is ErrorKind.UNREACHABLE

"""Which names mean this machine."""

from __future__ import annotations

import pytest

from services.api.loopback import host_of, is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "LocalHost", "localhost.", "a.localhost", "127.0.0.1", "127.255.0.9", "::1", "[::1]"]
)
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "0.0.0.0",
            "::",
            "128.0.0.1",
            "10.0.0.1",
            "::2",
            "localhost.example",
            "notlocalhost",
            "127.0.0.1.example",
        ),
        *("127.1", "0x7f.1", "2130706433", "local host", "localhost:8000"),
    ],
)
def test_any_other(host):
    """Also spellings of 127.0.0.1 that only a resolver understands: no browser sends them as a host."""
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("authority", "host"),
    [("a:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a:", "a"), ("", ""), ("a:b", "a:b")],
)
def test_the_port_is_left_out(authority, host):
    assert host_of(authority) == host

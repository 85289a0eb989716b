from __future__ import annotations

import socket

import pytest

from services.keyframes.fetching.fetch import Reach
from tests.fuzz.internet import PUBLIC, Canaries, Internet
from tests.fuzz.urls import run


def test_no_hostile_url_gets_anywhere() -> None:
    """The same URLs every time; `python -m tests.fuzz.urls --seed N` tries others."""
    report = run(500, seed=1)
    assert (report.wrong, report.connections) == ([], [])
    assert report.ways.total() == 500
    assert {"as typed", "by redirect", "in a page"} <= set(report.ways)


def test_what_gets_through_is_noticed() -> None:
    report = run(6, seed=1, reach=Reach(allow_private_hosts=True, ports=None))
    assert report.connections


def test_a_visitor_is_seen() -> None:
    with Canaries() as canaries:
        socket.create_connection(("127.0.0.1", canaries.ports[0])).close()
        # Another visit than the first, so that the first was noted before.
        with socket.create_connection(("127.0.0.1", canaries.ports[0])) as second:
            second.recv(1)
    assert ("127.0.0.1", canaries.ports[0]) in canaries.visits


def test_who_walks_into_a_trap_is_noted_and_no_packet_leaves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:
        internet = Internet(web.getsockname()[1])
        internet.names["public.example"] = [[PUBLIC]]
        with internet.in_place_of_the_real_one():
            with pytest.raises(ConnectionRefusedError, match="a trap"):
                socket.create_connection(("10.0.0.1", 80))
            with pytest.raises(socket.gaierror):
                socket.create_connection(("unknown.example", 80))
            socket.create_connection(("public.example", 80)).close()
    assert (internet.trapped, internet.connected) == ([("10.0.0.1", 80)], [(PUBLIC, 80)])

"""The links that the faults disturb do what they say: otherwise a fault would test nothing."""

from __future__ import annotations

import socket
import socketserver
import threading
import time

import pytest

from tests.faults.network import Network


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(1024):
            self.server.asked.append(data)
            self.request.sendall(data)


@pytest.fixture
def asked() -> list[bytes]:
    """What arrived at the server."""
    return []


@pytest.fixture
def link(asked):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server, Network() as network:
        server.daemon_threads, server.asked = True, asked
        threading.Thread(target=server.serve_forever, daemon=True).start()
        link = network.link(lambda: server.server_address[1])
        link.switch_to = lambda mode, delay_s=0.0: (network.switch(link, mode, delay_s), time.sleep(0.1))
        yield link
        server.shutdown()


def connect(link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.listens_at), timeout=0.5)


def echoes(connection: socket.socket) -> bool:
    """Whether what is sent comes back; False when nothing does in time."""
    connection.sendall(b"hello")
    try:
        return connection.recv(1024) == b"hello"
    except TimeoutError:
        return False


def test_what_is_sent_passes(link):
    with connect(link) as connection:
        assert echoes(connection)


def test_a_delay_takes_its_time(link):
    link.switch_to("pass", 0.1)
    with connect(link) as connection:
        began_at = time.monotonic()
        assert echoes(connection)
        assert time.monotonic() - began_at >= 0.2, "there and back"


def test_a_cut_ends_connections_and_refuses_new_ones(link):
    with connect(link) as connection:
        assert echoes(connection)
        link.switch_to("cut")
        assert connection.recv(1024) == b""
    with connect(link) as connection:
        assert connection.recv(1024) == b""
    link.switch_to("pass")
    with connect(link) as connection:
        assert echoes(connection)


def test_a_mute_link_lets_questions_through(link, asked):
    with connect(link) as connection:
        link.switch_to("mute")
        assert not echoes(connection)
        assert asked == [b"hello"]


def test_silence_ends_where_the_system_ends_it(link):
    link.gives_up_s = 0.2
    with connect(link) as connection:
        assert echoes(connection)
        link.switch_to("silent")
        assert connection.recv(1024) == b""


def test_silence_keeps_connections_and_swallows_everything_also_after_it_is_over(link):
    with connect(link) as before:
        assert echoes(before)
        link.switch_to("silent")
        assert not echoes(before)
        with connect(link) as during:
            assert not echoes(during)
            link.switch_to("pass")
            assert not echoes(before)
            assert not echoes(during)
        with connect(link) as after:
            assert echoes(after)

"""An internet that ends at this process: names and public addresses are made up, and no packet leaves the machine.

A look-up is answered from a table. A connection to a public address arrives at a web server on loopback. Whoever tries
to connect anywhere else has walked into a trap: the attempt is noted, and on loopback real listeners wait, so that also
another process is seen.
"""

from __future__ import annotations

import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from typing import Any
from unittest.mock import patch

from shared.egress.addresses import refusal

PUBLIC = "93.184.216.34"
_NUMBERS = socket.AI_NUMERICHOST


class Internet:
    """names: what a name resolves to, one list of addresses per look-up; the last one stays.

    connected: the public addresses and ports that were connected to.
    trapped: the addresses and ports that nobody may connect to and somebody tried.
    looked_up: every host that was asked for.
    """

    def __init__(self, web_port: int) -> None:
        self.names: dict[str, list[list[str]]] = {"localhost": [["127.0.0.1", "::1"]]}
        self.connected: list[tuple[str, int]] = []
        self.trapped: list[tuple[str, int]] = []
        self.looked_up: list[str] = []
        self._web_port = web_port
        self._own_ports: set[int] = set()

    @contextmanager
    def in_place_of_the_real_one(self) -> Iterator[None]:
        """Have every socket of this process meet this internet."""
        look_up, connect, listen = socket.getaddrinfo, socket.socket.connect, socket.create_server

        def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
            text = host.decode() if isinstance(host, bytes) else host
            self.looked_up.append(text)
            answers = self.names.get(text)
            if answers is None:
                # Every spelling of a number is read by the system, as in reality; names stay here.
                return look_up(host, port, *args, **{**options, "flags": _NUMBERS})
            addresses = answers.pop(0) if len(answers) > 1 else answers[0]
            return [found for address in addresses for found in look_up(address, port, *args, **options)]

        def connect_here(own: socket.socket, address: Any) -> None:
            if own.family not in (socket.AF_INET, socket.AF_INET6):
                return connect(own, address)
            host, port = address[:2]
            ip = ip_address(host)
            if refusal(ip) is None:
                self.connected.append((host, port))
                # An IPv6 socket reaches the web server too, by the address that carries its IPv4 one.
                web = "127.0.0.1" if own.family == socket.AF_INET else "::ffff:127.0.0.1"
                return connect(own, (web, self._web_port))
            if host == "127.0.0.1" and port in self._own_ports:
                return connect(own, address)
            self.trapped.append((host, port))
            raise ConnectionRefusedError(f"a trap at {host} port {port}")

        def create_server(*args: Any, **options: Any) -> socket.socket:
            listener = listen(*args, **options)
            self._own_ports.add(listener.getsockname()[1])
            return listener

        with (
            patch.object(socket, "getaddrinfo", getaddrinfo),
            patch.object(socket.socket, "connect", connect_here),
            patch.object(socket, "create_server", create_server),
        ):
            yield


class Canaries:
    """Listeners on loopback that count who comes, from whatever process."""

    ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.1.2.3", "::1")
    WELL_KNOWN_PORTS = (80, 443, 8080)

    def __init__(self) -> None:
        self.visits: list[tuple[str, int]] = []
        self.ports: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._wake, self._waker = socket.socketpair()

    def __enter__(self) -> Canaries:
        for address in self.ADDRESSES:
            for port in (0, *self.WELL_KNOWN_PORTS):
                # Taken, or not ours to take, or a system without this address: the other listeners remain.
                with suppress(OSError):
                    self._listen(address, port)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._watch, name="canaries")
        self._thread.start()
        return self

    def _listen(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family)
        listener.setblocking(False)
        self.ports.append(listener.getsockname()[1])
        self._selector.register(listener, selectors.EVENT_READ)

    def _watch(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake:
                    return
                listener = key.fileobj
                assert isinstance(listener, socket.socket)
                with suppress(BlockingIOError):
                    connection, _ = listener.accept()
                    self.visits.append(listener.getsockname()[:2])
                    connection.close()

    def __exit__(self, *_: object) -> None:
        self._waker.close()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()

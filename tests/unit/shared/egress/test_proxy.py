"""The egress proxy as its client meets it, over real sockets."""

from __future__ import annotations

import errno
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import urllib3

from services.keyframes.fetching.limits import FetchLimits
from shared.egress import proxy as egress
from shared.egress.addresses import Reach
from shared.egress.proxy import NOT_CONNECTED, REFUSED, EgressProxy
from shared.errors import ErrorKind
from tests.fuzz.internet import PUBLIC, Internet

BODY = bytes(range(256)) * 4000


@pytest.fixture
def proxy(internet: Internet, limits: FetchLimits) -> Iterator[EgressProxy]:
    with EgressProxy(Reach(), limits) as proxy:
        yield proxy


def ask(proxy: EgressProxy, url: str, method: str = "GET", **options: Any) -> urllib3.BaseHTTPResponse:
    headers = urllib3.make_headers(proxy_basic_auth=proxy.url.removeprefix("http://").partition("@")[0])
    with urllib3.ProxyManager(f"http://127.0.0.1:{proxy.port}", proxy_headers=headers, retries=False) as client:
        return client.request(method, url, timeout=10, **options)


def say(proxy: EgressProxy, head: str, then: bytes = b"") -> bytes:
    """What the proxy says to raw bytes; `<auth>` in them is the header with the password."""
    password = b64encode(proxy.url.removeprefix("http://").partition("@")[0].encode()).decode()
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as connection:
        connection.sendall(head.replace("<auth>", f"Proxy-Authorization: Basic {password}").encode("latin-1") + then)
        said = b""
        with suppress(ConnectionResetError):  # it does not read to the end what it refuses
            while block := connection.recv(65536):
                said += block
        return said


def test_a_request_is_passed_on_without_what_is_the_proxys(web: Any, proxy: EgressProxy, internet: Internet) -> None:
    web.serve("/a b".replace(" ", "%20"), BODY)
    answer = ask(proxy, "http://public.example/a%20b?x=%2F", headers={"X-Own": "yes", "Keep-Alive": "5"})
    assert (answer.status, answer.data) == (200, BODY)
    [(path, headers)] = web.requests
    assert (path, headers["Host"], headers["X-Own"]) == ("/a%20b?x=%2F", "public.example", "yes")
    assert {"Proxy-Authorization", "Keep-Alive"} & set(headers) == set()
    assert internet.connected == [(PUBLIC, 80)]
    assert (proxy.connections, proxy.refusal, proxy.failure) == (1, None, None)


def test_a_body_is_passed_on(web: Any, proxy: EgressProxy) -> None:
    bodies: list[bytes] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        bodies.append(request.rfile.read(int(request.headers["Content-Length"])))
        request.send_response(204)
        request.end_headers()

    web.answers["/form"] = answer
    assert ask(proxy, "http://public.example/form", "POST", body=BODY).status == 204
    assert bodies == [BODY]


def test_a_redirect_is_passed_on_and_not_followed(web: Any, proxy: EgressProxy) -> None:
    web.redirect("/a", "http://10.0.0.1/b")
    answer = ask(proxy, "http://public.example/a", redirect=False)
    assert (answer.status, answer.headers["Location"]) == (302, "http://10.0.0.1/b")
    assert proxy.refusal is None


def test_a_tunnel_carries_bytes_both_ways(web: Any, proxy: EgressProxy, internet: Internet) -> None:
    web.serve("/a", BODY)
    # The first bytes come with the request for the tunnel, and must not be lost.
    said = say(proxy, "CONNECT public.example:443 HTTP/1.1\r\n<auth>\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 Connected\r\n\r\nHTTP/1.0 200 OK\r\n")
    assert said.endswith(BODY)
    assert internet.connected == [(PUBLIC, 443)]


def early_hints(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    # Lines that end in a bare line feed, and a connection that does not end with the answer.
    request.wfile.write(b"HTTP/1.1 200 OK\nContent-Length: 2\nConnection: keep-alive\n\nok")
    request.rfile.read(1)


def test_the_connection_ends_with_the_answer_even_if_the_server_would_keep_it(web: Any, proxy: EgressProxy) -> None:
    web.answers["/a"] = early_hints
    answer = ask(proxy, "http://public.example/a")
    assert (answer.status, answer.data, answer.headers["Connection"]) == (200, b"ok", "close")


@pytest.mark.parametrize(
    "head",
    [
        "GET http://public.example/ HTTP/1.1\r\n\r\n",
        "GET http://public.example/ HTTP/1.1\r\nProxy-Authorization: Basic cmVlbG1hcDo=\r\n\r\n",
        "GET http://public.example/ HTTP/1.1\r\nProxy-Authorization: Basic \xff\r\n\r\n",
        "CONNECT public.example:443 HTTP/1.1\r\n\r\n",
    ],
)
def test_a_stranger_is_not_served(head: str, proxy: EgressProxy, internet: Internet) -> None:
    assert say(proxy, head).startswith(b"HTTP/1.1 407 " + REFUSED.encode())
    assert "public.example" not in internet.looked_up
    assert internet.connected == []


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /a HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET https://public.example/ HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET file:///etc/passwd HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET ftp://public.example/ HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET http:///a HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET http://[::1 HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("GET http://public.example:x/ HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("POST http://public.example/ HTTP/1.1\r\n<auth>\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("CONNECT / HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("CONNECT public.example:99999 HTTP/1.1\r\n<auth>\r\n\r\n", 400),
        ("TRACE http://public.example/ HTTP/1.1\r\n<auth>\r\n\r\n", 501),
        ("GET http://a\0b/ HTTP/1.1\r\n<auth>\r\n\r\n", 502),
        ("CONNECT public.example:22 HTTP/1.1\r\n<auth>\r\n\r\n", 403),
        ("GET http://public.example:6379/ HTTP/1.1\r\n<auth>\r\n\r\n", 403),
        ("GET http://good.example@127.0.0.1/ HTTP/1.1\r\n<auth>\r\n\r\n", 403),
        ("nonsense\r\n\r\n", 400),
        ("GET http://public.example/ HTTP/1.1\r\n" + "X: y\r\n" * 200 + "\r\n", 431),
    ],
)
def test_what_is_no_request_to_a_web_server_goes_nowhere(
    head: str, status: int, proxy: EgressProxy, internet: Internet
) -> None:
    assert f"{status} ".encode() in say(proxy, head)[:30]
    assert (internet.connected, internet.trapped) == ([], [])


def test_a_refusal_is_kept_with_the_host(proxy: EgressProxy, internet: Internet) -> None:
    internet.names["inside.example"] = [["10.0.0.1"]]
    assert ask(proxy, "http://inside.example/").reason == REFUSED
    assert ask(proxy, "http://127.0.0.1/").status == 403
    assert proxy.refusal is not None
    assert proxy.refusal.kind is ErrorKind.PRIVATE_ADDRESS
    assert "inside.example leads to 10.0.0.1" in proxy.refusal.message
    assert (proxy.connections, internet.trapped) == (0, [])


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.shutdown(socket.SHUT_RDWR)


def no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def endless_hints(request: BaseHTTPRequestHandler) -> None:
    while True:
        request.wfile.write(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 100)


def endless_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        request.wfile.write(b"X: " + b"y" * 8000 + b"\r\n")


@pytest.mark.parametrize("answer", [hang_up, no_http, endless_hints, endless_headers])
def test_a_server_that_speaks_no_http_is_a_failure_that_is_kept(answer: Any, web: Any, proxy: EgressProxy) -> None:
    web.answers["/a"] = answer
    got = ask(proxy, "http://public.example/a")
    assert (got.status, got.reason) == (502, NOT_CONNECTED)
    assert proxy.failure is not None
    assert "public.example gave no answer in HTTP" in proxy.failure.message


def test_nobody_there_is_a_failure_that_is_kept(internet: Internet, limits: FetchLimits) -> None:
    internet.names["nobody.example"] = [["127.0.0.9"]]
    with EgressProxy(Reach(allow_private_hosts=True), limits) as proxy:
        assert ask(proxy, "http://nobody.example/").reason == NOT_CONNECTED
        assert ask(proxy, "http://nowhere.invalid/").reason == NOT_CONNECTED
    assert proxy.failure is not None
    assert "nowhere.invalid could not be resolved" in proxy.failure.message
    assert proxy.connections == 0


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(BODY)


def test_the_bytes_of_one_fetch_are_bounded(
    web: Any, internet: Internet, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T8"""
    monkeypatch.setattr(egress, "_BYTES_BESIDE_THE_VIDEO", 1_000_000)
    web.answers["/a"] = endless
    with EgressProxy(Reach(), limits) as proxy:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            ask(proxy, "http://public.example/a")
        assert proxy.refusal is not None
        assert proxy.refusal.kind is ErrorKind.TOO_LARGE
        with pytest.raises(urllib3.exceptions.HTTPError):
            ask(proxy, "http://public.example/a")


def reset(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(BODY)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    request.connection.close()


def silent(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.rfile.read(1)


@pytest.mark.parametrize("answer", [reset, silent])
def test_a_body_that_breaks_off_does_not_look_whole(
    answer: Any, web: Any, internet: Internet, limits: FetchLimits
) -> None:
    web.answers["/a"] = answer
    hasty = replace(limits, read_timeout_s=0.2)
    with EgressProxy(Reach(), hasty) as proxy, pytest.raises(urllib3.exceptions.ProtocolError):
        ask(proxy, "http://public.example/a")


def visit(proxy: EgressProxy, stack: ExitStack, said: bytes = b"") -> socket.socket:
    visitor = stack.enter_context(socket.create_connection(("127.0.0.1", proxy.port), timeout=10))
    visitor.sendall(said)
    return visitor


def test_no_more_connections_than_one_fetch_needs(
    web: Any, internet: Internet, proxy: EgressProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.answers["/a"] = silent
    password = b64encode(proxy.url.removeprefix("http://").partition("@")[0].encode())
    request = b"GET http://public.example/a HTTP/1.1\r\nProxy-Authorization: Basic " + password + b"\r\n\r\n"
    with ExitStack() as stack:
        served = [visit(proxy, stack, request) for _ in range(32)]
        assert [visitor.recv(12) for visitor in served] == [b"HTTP/1.0 200"] * 32
        assert visit(proxy, stack, request).recv(12) == b"HTTP/1.1 503"


def test_strangers_take_no_place_from_who_knows_the_password(web: Any, internet: Internet, proxy: EgressProxy) -> None:
    web.serve("/a", BODY)
    with ExitStack() as stack:
        strangers = [visit(proxy, stack, b"GET http://public.example/a HTTP/1.1\r\n") for _ in range(100)]
        assert ask(proxy, "http://public.example/a").data == BODY
        # The first of so many have been cut for the last.
        assert strangers[0].recv(1) == b""


@pytest.mark.parametrize("said", [b"", b"GET http://public.example/a HTTP/1.1\r\nX: y\r\n"])
def test_a_stranger_is_listened_to_for_a_short_time(said: bytes, proxy: EgressProxy, monkeypatch: Any) -> None:
    monkeypatch.setattr(egress, "_HEAD_TIMEOUT_S", 0.2)
    with ExitStack() as stack:
        assert visit(proxy, stack, said).recv(1) == b""


def test_a_stranger_who_speaks_slowly_is_not_listened_to_longer(proxy: EgressProxy, monkeypatch: Any) -> None:
    monkeypatch.setattr(egress, "_HEAD_TIMEOUT_S", 0.3)
    with ExitStack() as stack, pytest.raises(ConnectionError):
        visitor = visit(proxy, stack, b"GET ")
        visitor.settimeout(0.1)
        until_s = time.monotonic() + 5
        while time.monotonic() < until_s:
            visitor.sendall(b"x")
            with suppress(TimeoutError):
                if not visitor.recv(1):
                    raise ConnectionResetError


def test_a_failed_accept_is_not_the_end(
    web: Any, internet: Internet, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "_LOOK_EVERY_S", 0.01)
    web.serve("/a", BODY)
    with EgressProxy(Reach(), limits) as proxy:
        failing = Failing(proxy._listener)
        proxy._listener = failing  # type: ignore[assignment]
        assert failing.has_failed.wait(10)
        assert ask(proxy, "http://public.example/a").data == BODY


class Failing:
    """A listener whose next `accept` finds no file handle left."""

    def __init__(self, listener: socket.socket) -> None:
        self.has_failed = threading.Event()
        self._listener = listener

    def accept(self) -> tuple[socket.socket, Any]:
        if not self.has_failed.is_set():
            self.has_failed.set()
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listener.accept()

    def close(self) -> None:
        self._listener.close()


def test_nothing_is_left_when_the_fetch_ends(web: Any, internet: Internet, limits: FetchLimits) -> None:
    web.answers["/a"] = endless
    with EgressProxy(Reach(), replace(limits, max_bytes=10**12, read_timeout_s=60)) as proxy:
        tunnel = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        idle = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        password = b64encode(proxy.url.removeprefix("http://").partition("@")[0].encode())
        tunnel.sendall(b"CONNECT public.example:80 HTTP/1.1\r\nProxy-Authorization: Basic " + password + b"\r\n\r\n")
        tunnel.sendall(b"GET /a HTTP/1.0\r\n\r\n")
        assert tunnel.recv(10)
        started_s = time.monotonic()
    assert time.monotonic() - started_s < 2  # it would wait that long for a thread that does not end
    assert [thread for thread in threading.enumerate() if thread.name == "egress"] == []
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", proxy.port))
    tunnel.close()
    idle.close()

"""A web server on loopback whose every answer is written in the test that asks for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.keyframes.fetching.fetch import FetchLimits
from tests.fuzz.internet import PUBLIC, Internet

Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class WebServer:
    """answers: what to do for a path; `requests` are (path, headers) in the order they came."""

    port: int
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def serve(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> str:
        """Answer `path` with these bytes; header names are given with underscores. Returns the URL."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                if value:
                    request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(body)

        self.answers[path] = answer
        return self.url(path)

    def redirect(self, path: str, to: str, status: int = 302) -> str:
        return self.serve(path, status=status, Location=to)


@pytest.fixture
def web() -> Iterator[WebServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            web.requests.append((self.path, dict(self.headers)))
            with contextlib.suppress(OSError):  # the client may hang up whenever it likes
                answer = web.answers.get(self.path.partition("?")[0])
                if answer is None:
                    self.send_error(404)
                else:
                    answer(self)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

        def finish(self) -> None:
            with contextlib.suppress(OSError):
                super().finish()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web = WebServer(server.server_port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield web
    server.shutdown()
    thread.join()
    # Not server_close(): it would wait for answers that are slow on purpose.
    server.socket.close()


@pytest.fixture
def internet(web: WebServer) -> Iterator[Internet]:
    """An internet on which every public address is `web`, and `public.example` is one."""
    internet = Internet(web.port)
    internet.names["public.example"] = [[PUBLIC]]
    with internet.in_place_of_the_real_one():
        yield internet


@pytest.fixture
def limits() -> FetchLimits:
    return FetchLimits(
        max_bytes=1_000_000,
        max_redirects=3,
        connect_timeout_s=2,
        read_timeout_s=2,
        total_timeout_s=30,
        max_duration_s=60,
    )

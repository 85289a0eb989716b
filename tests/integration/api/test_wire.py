"""The API's own process, asked by hand over a socket: what ends a connection, and what does not."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from services.local.up import listen, page_url, port_of, wait_until_ready
from shared.settings import Settings

JSON = "Content-Type: application/json\r\n"
CHUNKED = f"{JSON}Transfer-Encoding: chunked\r\n"
A_JOB = json.dumps({"videos": ["https://example.org/a"], "models": ["hog_color"]}).encode()


@dataclass(frozen=True)
class Answer:
    """status, headers by name in small letters, body."""

    status: int
    headers: dict[str, str]
    body: bytes


class Connection:
    """One connection to the API, over which anything can be sent."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.socket.makefile("rb")

    def ask(self, line: str, headers: str = "", body: bytes = b"") -> Answer:
        self.socket.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode() + body)
        return self.answer()

    def answer(self) -> Answer:
        status = int(self.file.readline().split()[1])
        headers = {}
        while line := self.file.readline().strip().decode():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        if status == 100:  # go on, as the request asked for
            return self.answer()
        return Answer(status, headers, self.file.read(int(headers.get("content-length", 0))))

    def is_closed(self) -> bool:
        return self.file.read(1) == b""

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture(scope="module")
def port(guard, postgres_server, migrated_template, tmp_path_factory) -> Iterator[int]:
    """The port of a running API that asks for no key."""
    folder = tmp_path_factory.mktemp("wire")
    url = postgres_server.create_database("wire", template=migrated_template)
    with listen("127.0.0.1", 0) as listener:
        port = port_of(listener)
        settings = Settings(
            database_url=url,
            blobs_folder=folder / "blobs",
            work_folder=folder / "work",
            own_models={},
            access="open",
            hub=False,
            api_port=port,
            max_upload_bytes=1_000_000,
        )
        argv = [sys.executable, "-P", "-m", "services.api.server", "--listener-fd", str(listener.fileno())]
        environ = {**os.environ, **settings.to_environ()}
        process = guard.spawn(argv, log=folder / "api.log", env=environ, keep_fds=(listener.fileno(),))
    assert wait_until_ready(page_url("127.0.0.1", port), lambda: None)
    yield port
    guard.kill(process)
    log = (folder / "api.log").read_text()
    postgres_server.drop_database("wire")
    assert " ERROR " not in log, log


@pytest.fixture
def connection(port) -> Iterator[Connection]:
    connection = Connection(port)
    yield connection
    connection.close()


def length(body: bytes) -> str:
    return f"Content-Length: {len(body)}\r\n"


def test_a_connection_whose_bodies_were_read_goes_on(connection):
    for _ in range(2):
        answer = connection.ask("POST /api/v1/jobs", JSON + length(A_JOB), A_JOB)
        assert (answer.status, answer.headers["connection"]) == (202, "keep-alive")
        chunks = f"{len(A_JOB):x}\r\n".encode() + A_JOB + b"\r\n0\r\n\r\n"
        assert connection.ask("POST /api/v1/jobs", CHUNKED, chunks).status == 202
        answer = connection.ask("POST /api/v1/jobs", JSON + length(b"{}"), b"{}")
        assert (answer.status, answer.headers["connection"]) == (422, "keep-alive")
        assert connection.ask("GET /nowhere").headers["connection"] == "keep-alive"


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        ("POST /api/v1/jobs", f"{JSON}Content-Length: 100000000\r\n", 413),
        ("POST /api/v1/uploads", "Content-Length: 100000000\r\n", 413),
        ("POST /nowhere", "Content-Length: 100000\r\n", 404),
        ("PUT /api/v1/jobs", "Content-Length: 100000\r\n", 405),
        ("POST /api/v1/jobs", "Content-Type: text/plain\r\nContent-Length: 100000\r\n", 415),
        ("POST /api/v1/jobs", f"{JSON}Origin: https://evil.example\r\nContent-Length: 100000\r\n", 403),
        ("POST /api/v1/jobs", f"{JSON}Expect: 100-continue\r\nContent-Length: 100000000\r\n", 413),
        ("POST /nowhere", "Transfer-Encoding: chunked\r\n", 404),
    ],
)
def test_an_answer_before_the_body_was_read_ends_the_connection_and_says_so(connection, line, headers, status):
    # The body is a request of its own, which must not be answered.
    answer = connection.ask(line, headers, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert answer.headers["content-type"] == "application/problem+json"
    assert connection.is_closed()


@pytest.mark.parametrize(
    "chunks",
    [
        b"-1\r\nabc\r\n0\r\n\r\n",
        b"nonsense\r\n",
        b"5\r\nabcdeXX0\r\n\r\n",
        b"0x5\r\nabcde\r\n0\r\n\r\n",
        b"\r\n",
        b"5;" + b"x" * 20_000,
        b"9" * 5000 + b"\r\nabcde\r\n0\r\n\r\n",
        b"3\r\n{}\n\r\n0\r\nHost: x\r\n\r\n",
    ],
)
@pytest.mark.parametrize("line", ["POST /api/v1/jobs", "POST /api/v1/uploads"])
def test_a_broken_chunk_is_a_bad_request(connection, line, chunks):
    connection.socket.sendall(f"{line} HTTP/1.1\r\nHost: localhost\r\n{CHUNKED}\r\n".encode() + chunks)
    connection.socket.shutdown(socket.SHUT_WR)
    answer = connection.answer()
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert "breaks off" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Accept: a/b" + " " * 8000 + "c\r\n", 431),
        (("Accept: a/b" + " " * 1900 + "c\r\n") * 90, 431),
        ("Range: bytes=" + "0-1," * 1000 + "\r\n", 431),
        ("X-Much: " + "x" * 8000 + "\r\n" + "Y: 1\r\n" * 99, 431),
        ("Content-Length: " + "1" * 5000 + "\r\n", 400),
        ("Content-Length: -1\r\n", 400),
    ],
)
def test_headers_that_nothing_should_parse_are_refused_at_once(connection, headers, status):
    began = time.monotonic()
    answer = connection.ask("GET /static/nowhere", headers)
    assert answer.status == status
    assert time.monotonic() - began < 5

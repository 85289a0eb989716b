"""Answers of servers, well-formed and not: what is taken, what is refused, and that it costs little either way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from shared.egress.http import MAX_HEAD_BYTES, MAX_INTERIM_ANSWERS, Answer, NotHttp, ask

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def said(connection: socket.socket, data: bytes | Iterator[bytes]) -> None:
    with suppress(OSError), connection:  # the client may hang up
        connection.recv(65536)
        for block in [data] if isinstance(data, bytes) else data:
            connection.sendall(block)


def answer_to(data: bytes | Iterator[bytes]) -> tuple[Answer, bytes]:
    """The answer that a server makes which says `data` and hangs up, and its body."""
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    server = threading.Thread(target=said, args=(theirs, data))
    server.start()
    try:
        with ours:
            answer = ask(ours, "/a.mp4", {"Host": "public.example"})
            return answer, b"".join(answer.blocks)
    finally:
        server.join()


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", b"abc"),
        (b"HTTP/1.1 200\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.0 200 OK\n\nabc", b"abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", b"abc"),
        (CHUNKED + b"3\r\nabc\r\n2;name=value\r\nde\r\n0\r\nX: y\r\n\r\n", b"abcde"),
        (CHUNKED + b"0\r\n\r\n", b""),
        (HINTS + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (HINTS * MAX_INTERIM_ANSWERS + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        # Lines that are no headers, and characters that none may hold: whoever writes them sends whole videos too.
        (b"HTTP/1.1 200 OK\r\nno header at all\r\nContent-Length : 3\r\n: x\r\nX: a\0b\x1b\r\n\r\nabc", b"abc"),
    ],
)
def test_the_body_is_what_the_server_means(data: bytes, body: bytes) -> None:
    answer, got = answer_to(data)
    assert (answer.status, got) == (200, body)


def test_headers_are_found_by_their_names() -> None:
    answer, _ = answer_to(b"HTTP/1.1 404 N\xc3\xb6 \x1b[31m\r\nX-Odd: a\0b\r\nx-odd: second\r\n\r\n")
    assert answer.header("x-odd") == "a b"
    assert answer.header("content-type") == ""
    assert [value for name, value in answer.headers if name == "x-odd"] == ["a b", "second"]
    assert answer.reason.isprintable()


@pytest.mark.parametrize(
    "size",
    [b"-5", b"+5", b"0x5", b"1_0", b"", b" 5", b"5 5", b"f" * 5000, "٣".encode()],
)
def test_a_chunk_whose_size_is_no_number_is_refused(size: bytes) -> None:
    with pytest.raises(NotHttp):
        answer_to(CHUNKED + size + b"\r\nabcde\r\n0\r\n\r\n")


@pytest.mark.parametrize("length", [b"-1", b"+3", b"3, 4", b"1_0", b"0x3", b"9" * 5000, "٣".encode()])
def test_a_length_that_is_no_number_is_refused(length: bytes) -> None:
    with pytest.raises(NotHttp):
        answer_to(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\nabc")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        CHUNKED + b"5\r\nabc",
        HINTS,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 201 + b"\r\n",
    ],
)
def test_what_is_no_whole_answer_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttp):
        answer_to(data)


def endless(block: bytes) -> Iterator[bytes]:
    while True:
        yield block


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(lambda: endless(HINTS * 100), id="interim answers"),
        pytest.param(lambda: iter([b"HTTP/1.1 200 OK\r\n", *[b"X: " + b"y" * 8000 + b"\r\n"] * 50]), id="headers"),
        pytest.param(lambda: endless(b"x" * 8000), id="a status line"),
        pytest.param(lambda: iter([CHUNKED, b"0\r\n", *[b"X: " + b"y" * 8000 + b"\r\n"] * 50]), id="trailers"),
        pytest.param(lambda: iter([CHUNKED, *[b"0" * 8000] * 50]), id="a chunk's size"),
        pytest.param(lambda: iter([b"HTTP/1.1 200 OK\r\nX: " + b";" * (2 * MAX_HEAD_BYTES)]), id="a header"),
    ],
)
def test_what_has_no_end_is_given_up_soon(data) -> None:
    started_s = time.process_time()
    with pytest.raises(NotHttp):
        answer_to(data())
    assert time.process_time() - started_s < 2

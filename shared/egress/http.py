"""One HTTP/1.1 request and its answer on a connection that is open, for talking to servers that nobody knows.

A head is bounded before it is parsed, and lines in it that are no headers are passed over, as browsers do. How long the
body is, h11 judges, strictly: sizes that are no numbers or contradict each other are refused. What stands in headers is
still a stranger's: bound it before handing it to a parser.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h11

from shared.clean_text import quoted

#: Bytes of a head or of the trailers; the least that big servers hold to is 8 KiB a header.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
#: Answers before the answer (100 Continue, 103 Early Hints).
MAX_INTERIM_ANSWERS = 10

_HEAD_BLOCK_BYTES = 16 * 1024
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256})[ \t]*:(.*)", re.DOTALL)
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BLOCK_BYTES = 256 * 1024


class NotHttp(Exception):
    """What the server says is no answer in HTTP, or one beyond the bounds; in words fit to be shown."""


@dataclass(frozen=True)
class Answer:
    """Status line and headers of an answer; the body follows in `blocks`, once.

    headers: (name in small letters, value) in the order they came; values as Latin-1.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    blocks: Iterator[bytes]

    def header(self, name: str) -> str:
        """The first value of a header, by its name in small letters; empty when there is none."""
        return next((value for each, value in self.headers if each == name), "")


def ask(connection: socket.socket, target: str, headers: Mapping[str, str], *, method: str = "GET") -> Answer:
    """Send a request without a body and read the head of its answer; the connection serves no other afterwards.

    target: path and query as they stand in a request line. headers: with `Host`; values as Latin-1, as in `Answer`.

    Raises `NotHttp`, and OSError; so does iterating over the blocks of the answer.
    """
    conversation = _Conversation(connection)
    lines = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers.items()]
    conversation.send(h11.Request(method=method, target=target, headers=[*lines, (b"Connection", b"close")]))
    conversation.send(h11.EndOfMessage())
    for _ in range(MAX_INTERIM_ANSWERS + 1):
        head = conversation.next_head()
        if isinstance(head, h11.Response):
            break
        if not isinstance(head, h11.InformationalResponse) or head.status_code == 101:
            raise NotHttp("it ended the conversation without an answer")
    else:
        raise NotHttp("it says again and again that the answer is still to come")
    if len(head.headers) > MAX_HEADERS:
        raise NotHttp(f"its answer has more than {MAX_HEADERS} headers")
    said = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in head.headers)
    return Answer(head.status_code, quoted(head.reason.decode("latin-1")), said, conversation.blocks())


class _Conversation:
    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._received = b""

    def send(self, event: Any) -> None:
        if data := self._protocol.send(event):
            self._socket.sendall(data)

    def next_head(self) -> Any:
        """The event of the next head, interim ones included."""
        self._protocol.receive_data(_without_what_is_no_header(self._read_head()))
        return self._next_event()

    def _read_head(self) -> bytes:
        searched = 0
        while not (end := _END_OF_HEAD.search(self._received, searched)):
            searched = max(0, len(self._received) - 3)
            if len(self._received) > MAX_HEAD_BYTES:
                raise NotHttp(f"the head of its answer is longer than {MAX_HEAD_BYTES:,} bytes")
            if not (block := self._socket.recv(_HEAD_BLOCK_BYTES)):
                raise NotHttp("it broke off" if self._received else "it hung up without a word")
            self._received += block
        head, self._received = self._received[: end.end()], self._received[end.end() :]
        return head

    def blocks(self) -> Iterator[bytes]:
        """What follows the head of the answer."""
        if self._received:
            self._protocol.receive_data(self._received)
        while isinstance(event := self._next_event(), h11.Data):
            yield bytes(event.data)
        if not isinstance(event, h11.EndOfMessage):
            raise NotHttp("it broke off")

    def _next_event(self) -> Any:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                self._protocol.receive_data(self._socket.recv(_BLOCK_BYTES))
        except h11.RemoteProtocolError as error:
            raise NotHttp(quoted(str(error))) from error
        return event


def _without_what_is_no_header(head: bytes) -> bytes:
    status, *lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    kept = [
        match.expand(rb"\1:") + _CONTROLS.sub(b" ", match[2]) for line in lines if (match := _HEADER.fullmatch(line))
    ]
    return b"\r\n".join([status, *kept, b"", b""])

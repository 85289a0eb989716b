"""The only way out for a process that opens connections of its own: a small HTTP proxy that judges every destination.

It listens on loopback for the time of one fetch and serves who knows the password of that fetch. Each request names a
host; the host is resolved here, every address judged as for a direct download, and the connection opened to a judged
address. So it does not matter where a page, a redirect or a changing name wants to lead. It follows nothing itself: to
`CONNECT` it answers with a tunnel, to anything else with what the server says.

What was refused is kept in our own words, because the process behind the proxy only sees a status.
"""

from __future__ import annotations

import email.message
import hmac
import http.client
import logging
import re
import secrets
import selectors
import socket
import struct
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Container, Iterator
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import RawIOBase
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from shared.clean_text import quoted
from shared.egress.addresses import Reach
from shared.egress.connections import connect
from shared.egress.http import MAX_HEAD_BYTES
from shared.errors import ErrorKind, PermanentError, TransientError

_log = logging.getLogger(__name__)

#: The words in the proxy's own answers; they tell them from a server's.
REFUSED = "refused by Reelmap"
NOT_CONNECTED = "not connected by Reelmap"

_MAX_CONNECTIONS = 32
# Anyone on this machine can connect. Who has not shown the password yet takes no place from who has, and is cut when it
# takes longer than anyone who knows it, or when many more come.
_MAX_STRANGERS = 32
_HEAD_TIMEOUT_S = 2.0
_LOOK_EVERY_S = 0.5
# What comes in beside the video: pages, scripts, lists of segments, segments that are asked for twice.
_BYTES_BESIDE_THE_VIDEO = 64 * 1024**2
_BLOCK_BYTES = 256 * 1024
_STOP_WAIT_S = 2.0
_LENGTH = re.compile(r"\d{1,18}", re.ASCII)
# Headers that are said to the next station only (RFC 9110, 7.6.1), and the one that asks to be asked.
_NOT_PASSED_ON = frozenset({"connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "expect"})


class Limits(Protocol):
    """What one fetch may take through the proxy; `max_bytes` is for the video, what comes beside it is allowed for."""

    @property
    def max_bytes(self) -> int: ...

    @property
    def connect_timeout_s(self) -> float: ...

    @property
    def read_timeout_s(self) -> float: ...


class EgressProxy:
    """One fetch's way out, open inside `with`.

    port, url: where it listens, and what the fetching process is given as its proxy; the URL holds the password.
    connections: how many were opened to the outside.
    refusal: why a destination was refused, or the whole fetch once it took too much; the first one.
    failure: why a server could not be talked to; the last one.
    """

    def __init__(self, reach: Reach, limits: Limits) -> None:
        self.connections = 0
        self.refusal: PermanentError | None = None
        self.failure: TransientError | None = None
        # The client waits for read_timeout_s; it has more to say about it, so it goes first.
        self.idle_timeout_s = 2 * limits.read_timeout_s
        self._reach = reach
        self._connect_timeout_s = limits.connect_timeout_s
        self._max_bytes = limits.max_bytes + _BYTES_BESIDE_THE_VIDEO
        self._bytes = 0
        self._password = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._strangers: dict[socket.socket, float] = {}  # since when, on the monotonic clock; the oldest is first
        self._visits: set[threading.Thread] = set()
        self._open: set[socket.socket] = set()
        self._slots = threading.BoundedSemaphore(_MAX_CONNECTIONS)

    def __enter__(self) -> EgressProxy:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_LOOK_EVERY_S)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://reelmap:{self._password}@127.0.0.1:{self.port}"
        self._acceptor = threading.Thread(target=self._accept, name="egress", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Cut every connection. A thread that sits in the resolver ends later, with nothing open."""
        self._cut_all()
        with suppress(OSError):  # a visitor wakes `accept` on every system; closing its socket does not
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._acceptor.join(timeout=_STOP_WAIT_S)
        self._listener.close()
        end_s = time.monotonic() + _STOP_WAIT_S
        with self._lock:
            visits = list(self._visits)
        for visit in visits:
            visit.join(timeout=max(0.0, end_s - time.monotonic()))

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                visitor, address = self._listener.accept()
            except TimeoutError:
                self._cut_strangers(leave=_MAX_STRANGERS)
                continue
            except OSError:  # a visitor that hung up, or no file handle left: neither lasts
                self._over.wait(_LOOK_EVERY_S)
                continue
            self._cut_strangers(leave=_MAX_STRANGERS - 1)
            visit = threading.Thread(target=self._serve, args=(visitor, address), name="egress", daemon=True)
            with self._lock:
                self._strangers[visitor] = time.monotonic()
                self._visits.add(visit)
            visit.start()

    def _cut_strangers(self, leave: int) -> None:
        """Hang up on those who have not shown the password in time, and on the oldest of more than `leave`."""
        late = time.monotonic() - _HEAD_TIMEOUT_S
        with self._lock:
            while self._strangers:
                stranger, since = next(iter(self._strangers.items()))
                if since > late and len(self._strangers) <= leave:
                    return
                del self._strangers[stranger]
                with suppress(OSError):  # it hung up itself
                    stranger.shutdown(socket.SHUT_RDWR)

    def _serve(self, visitor: socket.socket, address: tuple[str, int]) -> None:
        try:
            with closing(visitor), self._held(visitor):
                _Visit(visitor, address, self)  # type: ignore[arg-type]  # it reads its own server's attributes only
        except OSError:
            pass  # either side hung up, or the fetch is over
        except Exception:
            _log.exception("the egress proxy failed")
        finally:
            with self._lock:
                self._strangers.pop(visitor, None)
                self._visits.discard(threading.current_thread())

    def admits(self, authorization: str) -> bool:
        """Whether a Proxy-Authorization header holds the password of this fetch."""
        expected = "Basic " + b64encode(f"reelmap:{self._password}".encode()).decode()
        return hmac.compare_digest(authorization.encode(), expected.encode())

    @contextmanager
    def slot(self, visitor: socket.socket) -> Iterator[bool]:
        """One of the places for those who showed the password; False when all are taken. Raises OSError once cut."""
        with self._lock:
            if self._strangers.pop(visitor, None) is None:
                raise ConnectionAbortedError("it took too long to say what it wants")
        is_free = self._slots.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self._slots.release()

    @contextmanager
    def connected(self, host: str, port: int) -> Iterator[socket.socket]:
        """A connection to the first of the host's judged addresses that answers.

        Raises PermanentError when the destination is refused, TransientError(UNREACHABLE) when none answers. Both, also
        from inside the `with`, are kept.
        """
        try:
            with closing(self._connect(host, port)) as outside, self._held(outside):
                outside.settimeout(self.idle_timeout_s)
                with self._lock:
                    self.connections += 1
                yield outside
        except PermanentError as refusal:
            self.refusal = self.refusal or refusal
            raise
        except TransientError as failure:
            self.failure = failure
            raise

    def _connect(self, host: str, port: int) -> socket.socket:
        try:
            return connect(host, port, reach=self._reach, timeout_s=self._connect_timeout_s)
        except OSError as error:
            raise TransientError(
                ErrorKind.UNREACHABLE, f"The connection to {host} failed ({error.strerror or error})."
            ) from error

    def count(self, size_bytes: int) -> None:
        """Note bytes that went through; cuts every connection when they are more than one fetch may take."""
        with self._lock:
            self._bytes += size_bytes
            if self._bytes <= self._max_bytes:
                return
            self.refusal = self.refusal or PermanentError(
                ErrorKind.TOO_LARGE,
                f"More than {self._max_bytes:,} bytes came in, the most that a video and its pages may have; submit a "
                "smaller version of it, or have the limit raised.",
            )
        self._cut_all()

    @contextmanager
    def _held(self, connection: socket.socket) -> Iterator[None]:
        """Have a connection cut when the fetch ends. Raises OSError once it has ended."""
        with self._lock:
            self.raise_if_over()
            self._open.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(connection)

    def _cut_all(self) -> None:
        with self._lock:
            self._over.set()
            for connection in self._open:
                # For reading alone, which wakes whoever waits: an end that is written would make a cut body look whole.
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)

    def raise_if_over(self) -> None:
        """Raise OSError once the fetch has ended, or took too much."""
        if self._over.is_set():
            raise ConnectionAbortedError("the fetch is over")


class _Visit(BaseHTTPRequestHandler):
    """One request of the fetching process; its connection ends with it."""

    server: EgressProxy  # type: ignore[assignment]
    protocol_version = "HTTP/1.1"
    # Unbuffered, so that nothing of a tunnel's first bytes is taken with the request's head.
    rbufsize = 0
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(_HEAD_TIMEOUT_S)

    def do_CONNECT(self) -> None:
        def tunnel(outside: socket.socket, _: SplitResult) -> None:
            self.send_response_only(HTTPStatus.OK, "Connected")
            self.end_headers()
            self._relay(outside, both_ways=True)

        self._answer(f"//{self.path}", 443, tunnel)

    def _forward(self) -> None:
        if self.path.startswith("http://") and "Transfer-Encoding" not in self.headers:
            self._answer(self.path, 80, self._exchange)
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, REFUSED)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _forward

    def _answer(self, url: str, default_port: int, talk: Callable[[socket.socket, SplitResult], None]) -> None:
        self.close_connection = True
        if not self.server.admits(self.headers.get("Proxy-Authorization", "")):
            self._refuse(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, REFUSED)
            return
        with self.server.slot(self.connection) as is_free:
            if not is_free:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, REFUSED)
                return
            self.connection.settimeout(self.server.idle_timeout_s)
            self._answer_admitted(url, default_port, talk)

    def _answer_admitted(self, url: str, default_port: int, talk: Callable[[socket.socket, SplitResult], None]) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or default_port
        except ValueError:
            host = None
        if not host:
            self._refuse(HTTPStatus.BAD_REQUEST, REFUSED)
            return
        try:
            with self.server.connected(host, port) as outside:
                talk(outside, parts)
        except PermanentError:
            self._refuse(HTTPStatus.FORBIDDEN, REFUSED)
        except TransientError:
            self._refuse(HTTPStatus.BAD_GATEWAY, NOT_CONNECTED)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True
        self.send_error(status, reason)

    def _exchange(self, outside: socket.socket, parts: SplitResult) -> None:
        """One request and its answer. Raises TransientError when it is none in HTTP."""
        self._send_request(outside, parts)
        try:
            head = _answer_head(outside)
        except (http.client.HTTPException, OSError) as error:
            raise TransientError(
                ErrorKind.UNREACHABLE,
                f"{parts.hostname} gave no answer in HTTP ({quoted(str(error)) or type(error).__name__}).",
            ) from error
        self.wfile.write(head)
        self._relay(outside, both_ways=False)

    def _send_request(self, outside: socket.socket, parts: SplitResult) -> None:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        first_lines = [f"{self.command} {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}"]
        outside.sendall(_head(first_lines, self.headers, but={*_NOT_PASSED_ON, "host"}))
        length = self.headers.get("Content-Length", "0")
        rest_bytes = int(length) if _LENGTH.fullmatch(length) else 0
        while rest_bytes > 0 and (block := self.rfile.read(min(rest_bytes, _BLOCK_BYTES))):
            self.server.count(len(block))
            outside.sendall(block)
            rest_bytes -= len(block)

    def _relay(self, outside: socket.socket, *, both_ways: bool) -> None:
        """Pass bytes on until either side ends, is silent for too long, or the fetch has taken enough."""
        try:
            self._pass_bytes(outside, both_ways)
            self.server.raise_if_over()
        except OSError:
            # A reset instead of an end: a body that ends with its connection must not look whole.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise

    def _pass_bytes(self, outside: socket.socket, both_ways: bool) -> None:
        other = {outside: self.connection, self.connection: outside}
        block = memoryview(bytearray(_BLOCK_BYTES))
        with selectors.DefaultSelector() as selector:
            for side in other:
                selector.register(side, selectors.EVENT_READ)
            while ready := selector.select(self.server.idle_timeout_s):
                for key, _ in ready:
                    side = key.fileobj
                    assert isinstance(side, socket.socket)
                    if side is self.connection and not both_ways:
                        return  # it hung up: it has had its request
                    size_bytes = side.recv_into(block)
                    if not size_bytes:
                        return
                    self.server.count(size_bytes)
                    other[side].sendall(block[:size_bytes])
        raise TimeoutError("silent for too long")

    def log_message(self, *_: object) -> None:
        """Nothing: what matters is in `refusal` and `failure`."""


def _answer_head(outside: socket.socket) -> bytes:
    """The status and headers of a server's answer, as they are passed on."""
    # Unbuffered, so that nothing of the body is taken with it.
    with outside.makefile("rb", buffering=0) as raw:
        file = _BoundedLines(raw)
        while True:
            status = file.readline(1000).decode("latin-1")
            if not status.startswith("HTTP/1."):
                raise http.client.BadStatusLine(status[:40])
            headers = http.client.parse_headers(file)
            if status[9:10] != "1":  # what is said before the answer has no reader
                return _head([status.rstrip("\r\n")], headers, but=_NOT_PASSED_ON)


class _BoundedLines:
    """Lines of a stream, until together they are longer than a head may be, with all that is said before it."""

    def __init__(self, file: RawIOBase) -> None:
        self._file = file
        self._left_bytes = MAX_HEAD_BYTES

    def readline(self, limit: int = -1, /) -> bytes:
        line = self._file.readline(limit)
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            raise http.client.HTTPException(f"its head is longer than {MAX_HEAD_BYTES:,} bytes")
        return line


def _head(first_lines: list[str], headers: email.message.Message, but: Container[str]) -> bytes:
    """The head of a request or an answer that ends its connection."""
    kept = [f"{name}: {value}" for name, value in headers.items() if name.lower() not in but]
    return "\r\n".join([*first_lines, "Connection: close", *kept, "", ""]).encode("latin-1")

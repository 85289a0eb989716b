"""Download one http(s) file to disk, without ever connecting where we must not and without taking more than allowed.

The host is resolved here, every address judged, and the connection opened to a judged address with the host kept in
the Host header, the TLS handshake and the certificate check; again at every redirect. Proxies of the environment have
no effect: a bare urllib3 connection never looks for them.

The transfer runs in a thread of its own because nothing else holds a total time limit: a server that sends one byte a
second satisfies every socket timeout, and a resolver cannot be interrupted at all.
"""

from __future__ import annotations

import email.message
import email.utils
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin

from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.receiving import Receiver, watched
from services.keyframes.fetching.site_errors import status_error
from shared.egress.addresses import Reach
from shared.egress.connections import connect
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.urls import DEFAULT_PORTS, SourceUrl, parse_source_url

if TYPE_CHECKING:
    from urllib3.connection import HTTPConnection
    from urllib3.response import BaseHTTPResponse

_BLOCK_BYTES = 256 * 1024
_LONGEST_RETRY_AFTER_S = 24 * 3600.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    # What we hash, count and limit is the file itself, never something that unpacks into more.
    "Accept-Encoding": "identity",
    "Accept": "*/*",
    "User-Agent": "Reelmap",
}
_WEB_PAGE_STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<script", b"<title", b"<meta")


@dataclass(frozen=True)
class Download:
    """sha256: of the bytes, in hex, computed while they came in.
    file_name: what the server or the URL calls the file, as it is written there; never to be used as a path.
    final_url: after all redirects.
    """

    sha256: str
    size_bytes: int
    file_name: str | None
    final_url: str


def download(
    source: SourceUrl,
    path: Path,
    limits: FetchLimits,
    *,
    reach: Reach,
    check: Callable[[], None],
) -> Download:
    """Stream an http(s) URL into a new file at `path`.

    check: called about twice a second; what it raises ends the transfer and is raised here.

    Raises PermanentError or TransientError with a sentence for the person who gave the URL. After an error `path` may
    hold a part of the file; removing it is the caller's part.
    """
    transfer = _Transfer(source, path, limits, reach)
    return watched(transfer.run, url=source.url, limits=limits, check=check, stop=transfer.stop)


class _Transfer:
    """The state of one transfer that the waiting thread needs in order to stop it."""

    def __init__(self, source: SourceUrl, path: Path, limits: FetchLimits, reach: Reach) -> None:
        self._source = source
        self._path = path
        self._limits = limits
        self._reach = reach
        self._stopped = threading.Event()
        # Kept here because a connection lets go of its socket once the response will close it.
        self._socket: socket.socket | None = None

    def stop(self) -> None:
        self._stopped.set()
        if self._socket is not None:
            # The plain socket's method even for TLS: the other thread may be reading, and only needs to be woken.
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def run(self) -> Download:
        from urllib3.exceptions import HTTPError

        url = self._source.url
        hop = self._source
        try:
            for _ in range(self._limits.max_redirects + 1):
                with closing(self._connect(hop)) as connection:
                    connection.request(
                        "GET", hop.target, headers={**_HEADERS, "Host": hop.authority}, preload_content=False
                    )
                    with closing(connection.getresponse()) as response:
                        if response.status not in _REDIRECTS or "Location" not in response.headers:
                            return self._save(response, hop)
                        hop = _next_hop(hop, response.headers["Location"])
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(
                ErrorKind.UNREACHABLE,
                f"{url}: the certificate of {hop.host} is not valid ({error.verify_message}); tell the owner of the "
                "server, or upload the file.",
            ) from error
        except (HTTPError, http.client.HTTPException, OSError) as error:
            raise TransientError(
                ErrorKind.UNREACHABLE, f"{url}: the connection to {hop.host} failed ({_cause(error)})."
            ) from error
        raise PermanentError(
            ErrorKind.TOO_MANY_REDIRECTS,
            f"{url}: redirected more than {self._limits.max_redirects} times; submit the final address.",
        )

    def _connect(self, hop: SourceUrl) -> HTTPConnection:
        connection = connect(
            hop.scheme,
            hop.host,
            hop.port,
            reach=self._reach,
            timeout_s=self._limits.connect_timeout_s,
            check=self._raise_if_stopped,
        )
        self._socket = connection.sock
        # After the line above and not before it: `stop` then either sees the socket or is seen here.
        self._raise_if_stopped()
        connection.timeout = self._limits.read_timeout_s
        return connection

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise ConnectionAbortedError("stopped")

    def _save(self, response: BaseHTTPResponse, hop: SourceUrl) -> Download:
        url = self._source.url
        if response.status != 200:
            raise status_error(response.status, response.reason or "", url, _retry_after_s(response))
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise PermanentError(
                ErrorKind.NOT_A_VIDEO,
                f"{url}: the server sent the file packed ({encoding}) though asked not to; upload the file instead.",
            )
        receiver = Receiver(url, self._path, self._limits)
        receiver.expect(_announced_bytes(response))
        with receiver.opened():
            while block := response.read(_BLOCK_BYTES, decode_content=False):
                self._raise_if_stopped()
                if receiver.size_bytes == 0 and _is_web_page(block, response.headers.get("Content-Type", "")):
                    raise PermanentError(
                        ErrorKind.NOT_A_VIDEO,
                        f"{url}: the server sent a web page instead of a video; submit the address of the video file "
                        "itself.",
                    )
                receiver.write(block)
        if receiver.size_bytes == 0:
            raise PermanentError(ErrorKind.EMPTY, f"{url}: the server sent an empty file (0 bytes).")
        return Download(receiver.sha256, receiver.size_bytes, _file_name(response, hop), hop.url)


def _next_hop(hop: SourceUrl, location: str) -> SourceUrl:
    try:
        target = parse_source_url(urljoin(hop.url, _as_utf8(location)))
    except PermanentError as error:
        raise PermanentError(
            ErrorKind.UNSUPPORTED_URL, f"{hop.url} redirects to an address that is not fetched: {error}"
        ) from error
    except ValueError as error:
        raise PermanentError(
            ErrorKind.UNSUPPORTED_URL, f"{hop.url} redirects to an address that is malformed ({error})."
        ) from error
    if target.scheme not in DEFAULT_PORTS:
        raise PermanentError(ErrorKind.UNSUPPORTED_URL, f"{hop.url} redirects to {target.url}, which is not fetched.")
    return target


def _announced_bytes(response: BaseHTTPResponse) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _retry_after_s(response: BaseHTTPResponse) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); at most a day."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_RETRY_AFTER_S)
    try:
        at = email.utils.parsedate_to_datetime(text)
        return min(max(at.timestamp() - time.time(), 0.0), _LONGEST_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        return None


def _is_web_page(head: bytes, content_type: str) -> bool:
    """Judged by the bytes: servers label videos as text/html, and error pages as video/mp4."""
    start = head[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(_WEB_PAGE_STARTS):
        return True
    return content_type.lower().startswith("text/html") and b"\0" not in head[:1024]


def _file_name(response: BaseHTTPResponse, hop: SourceUrl) -> str | None:
    header = email.message.Message()
    header["Content-Disposition"] = _as_utf8(response.headers.get("Content-Disposition", ""))
    name = header.get_filename() or unquote(hop.target.partition("?")[0])
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2] or None


def _as_utf8(header: str) -> str:
    """http.client decodes header bytes as Latin-1, while servers that go beyond ASCII write UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__

"""Download one http(s) file to disk, without ever connecting where we must not and without taking more than allowed.

Every hop's host is resolved and judged where its connection is opened, again at every redirect.

The transfer runs in a thread of its own because nothing else holds a total time limit: a server that sends one byte a
second satisfies every socket timeout, and a resolver cannot be interrupted at all. What a server says is bounded before
it is parsed, so that the thread of a download that was given up is never busy with it.
"""

from __future__ import annotations

import email.utils
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from services.keyframes.fetching.cookies import Cookies
from services.keyframes.fetching.file_names import as_utf8, file_name
from services.keyframes.fetching.limits import FetchLimits
from services.keyframes.fetching.receiving import Receiver, watched
from services.keyframes.fetching.site_errors import status_error
from shared.clean_text import quoted
from shared.egress.addresses import Reach
from shared.egress.connections import connect
from shared.egress.http import Answer, NotHttp, ask
from shared.errors import ErrorKind, PermanentError, TransientError
from shared.urls import DEFAULT_PORTS, SourceUrl, parse_source_url

_LONGEST_RETRY_AFTER_S = 24 * 3600.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {
    # What we hash, count and limit is the file itself, never something that unpacks into more.
    "Accept-Encoding": "identity",
    "Accept": "*/*",
    "User-Agent": "Reelmap",
}
#: What a body can be packed with. Servers name much else there (a charset, `aws-chunked`, nothing): it packs nothing.
_PACKINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "x-compress", "br", "zstd", "dcb", "dcz"})
_WHOLE = frozenset({200, 203})
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
        url = self._source.url
        hop = self._source
        cookies = Cookies()
        try:
            for _ in range(self._limits.max_redirects + 1):
                with closing(self._connect(hop)) as connection:
                    answer = ask(
                        connection, hop.target, {"Host": hop.authority, **_HEADERS, **cookies.headers(hop.url)}
                    )
                    location = answer.header("location")
                    if answer.status not in _REDIRECTS or not location:
                        return self._save(answer, hop)
                    cookies.take(answer, hop.url)
                    hop = _next_hop(hop, location)
        except ssl.SSLCertVerificationError as error:
            raise PermanentError(
                ErrorKind.UNREACHABLE,
                f"{url}: the certificate of {hop.host} is not valid ({quoted(error.verify_message)}); tell the owner "
                "of the server, or upload the file.",
            ) from error
        except NotHttp as error:
            raise TransientError(
                ErrorKind.UNREACHABLE, f"{url}: {hop.host} gave no answer in HTTP that can be read ({error})."
            ) from error
        except OSError as error:
            raise TransientError(
                ErrorKind.UNREACHABLE, f"{url}: the connection to {hop.host} failed ({_cause(error)})."
            ) from error
        raise PermanentError(
            ErrorKind.TOO_MANY_REDIRECTS,
            f"{url}: redirected more than {self._limits.max_redirects} times; submit the final address.",
        )

    def _connect(self, hop: SourceUrl) -> socket.socket:
        self._socket = connect(
            hop.host,
            hop.port,
            reach=self._reach,
            timeout_s=self._limits.connect_timeout_s,
            with_tls=hop.scheme == "https",
            check=self._raise_if_stopped,
        )
        # After the line above and not before it: `stop` then either sees the socket or is seen here.
        self._raise_if_stopped()
        self._socket.settimeout(self._limits.read_timeout_s)
        return self._socket

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise ConnectionAbortedError("stopped")

    def _save(self, answer: Answer, hop: SourceUrl) -> Download:
        url = self._source.url
        _refuse_unless_whole(answer, url)
        receiver = Receiver(url, self._path, self._limits)
        receiver.expect(_number(answer.header("content-length")))
        with receiver.opened():
            for block in answer.blocks:
                self._raise_if_stopped()
                if receiver.size_bytes == 0 and _is_web_page(block, answer.header("content-type")):
                    raise PermanentError(
                        ErrorKind.NOT_A_VIDEO,
                        f"{url}: the server sent a web page instead of a video; submit the address of the video file "
                        "itself.",
                    )
                receiver.write(block)
        if receiver.size_bytes == 0:
            raise PermanentError(ErrorKind.EMPTY, f"{url}: the server sent an empty file (0 bytes).")
        name = file_name(answer.header("content-disposition"), hop.target)
        return Download(receiver.sha256, receiver.size_bytes, name, hop.url)


def _refuse_unless_whole(answer: Answer, url: str) -> None:
    """Raise for an answer that is not the file, or not all of it, as it is."""
    if answer.status == 206:
        # Asked for no range, some servers send one all the same: it is the file where it is all of it.
        span = re.fullmatch(r"bytes 0-(\d{1,18})/(\d{1,18})", answer.header("content-range").strip(), re.ASCII | re.I)
        if not span or int(span[1]) + 1 != int(span[2]):
            raise TransientError(
                ErrorKind.SERVER_ERROR,
                f"{url}: the server sent a part of the file though asked for all of it "
                f"(“{quoted(answer.header('content-range')) or 'no range'}”).",
            )
    elif answer.status not in _WHOLE:
        raise status_error(answer.status, answer.reason, url, _retry_after_s(answer.header("retry-after")))
    packings = [word for word in re.split(r"[,\s]+", answer.header("content-encoding").lower()) if word in _PACKINGS]
    if packings:
        raise PermanentError(
            ErrorKind.NOT_A_VIDEO,
            f"{url}: the server sent the file packed ({', '.join(packings)}) though asked not to; upload the file "
            "instead.",
        )


def _next_hop(hop: SourceUrl, location: str) -> SourceUrl:
    try:
        target = parse_source_url(urljoin(hop.url, as_utf8(location)))
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


def _number(text: str) -> int | None:
    """A header's whole number; None where it is none, or none that could be meant."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


def _retry_after_s(text: str) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); at most a day."""
    text = text.strip()[:64]
    if (seconds := _number(text)) is not None:
        return min(float(seconds), _LONGEST_RETRY_AFTER_S)
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


def _cause(error: OSError) -> str:
    return quoted(error.strerror or str(error)) or type(error).__name__

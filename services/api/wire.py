"""What comes over the wire, before anything parses it: headers within limits, and a body that may end badly.

Servers bound each header. Here they are bounded together, and those that are parsed are short: some parsers of lists
and parameters take time by the square of what they are given (64 kB of spaces in an `Accept`: 14 s).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import BadRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MAX_HEADERS, MAX_HEADERS_BYTES = 100, 32 * 1024
#: One header, as servers have it: a cookie of other programs on this host, a long address in `Referer`.
MAX_HEADER_BYTES = 8190
#: One that is parsed, here or by a library.
MAX_PARSED_BYTES = 2000
MAX_LENGTH_DIGITS = 18

_PARSED = frozenset(
    [
        "ACCEPT",
        "ACCEPT_CHARSET",
        "ACCEPT_ENCODING",
        "ACCEPT_LANGUAGE",
        "ACCESS_CONTROL_REQUEST_HEADERS",
        "CACHE_CONTROL",
        "CONNECTION",
        "CONTENT_DISPOSITION",
        "CONTENT_ENCODING",
        "CONTENT_MD5",
        "DATE",
        "EXPECT",
        "FORWARDED",
        "HOST",
        "IF_MATCH",
        "IF_MODIFIED_SINCE",
        "IF_NONE_MATCH",
        "IF_RANGE",
        "IF_UNMODIFIED_SINCE",
        "MAX_FORWARDS",
        "ORIGIN",
        "PRAGMA",
        "RANGE",
        "TE",
        "TRANSFER_ENCODING",
        "UPGRADE",
        "X_FORWARDED_FOR",
        "X_FORWARDED_HOST",
        "X_FORWARDED_PORT",
        "X_FORWARDED_PREFIX",
        "X_FORWARDED_PROTO",
    ]
)

#: In the environment of a request: why its headers are refused, and its body.
REFUSED, BODY = "reelmap.headers_refused", "reelmap.body"


class Bounded:
    """The application behind limits on headers, and with a body that knows whether it was read to its end.

    Headers that are above a limit are taken out of the request, and the reason is put in: so whoever answers says it in
    the form of every other answer.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if reason := _refuse_headers(environ):
            environ[REFUSED] = reason
        environ[BODY] = environ["wsgi.input"] = Body(environ["wsgi.input"], _length(environ))
        return self._app(environ, start_response)


def _refuse_headers(environ: WSGIEnvironment) -> str | None:
    """Take out what is too large. Returns the reason, None when nothing is."""
    names = [name for name in environ if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")]
    reason = None
    for name in names:
        size_bytes, limit_bytes = len(environ[name]), _limit_bytes(name)
        if size_bytes > limit_bytes:
            del environ[name]
            reason = f"The header {_written(name)} has {size_bytes} bytes; here it may have {limit_bytes}."
    if len(names) > MAX_HEADERS or sum(len(environ.get(name, "")) + len(name) for name in names) > MAX_HEADERS_BYTES:
        for name in names:
            environ.pop(name, None)
        reason = f"The headers are more than {MAX_HEADERS}, or have more than {MAX_HEADERS_BYTES} bytes together."
    return reason


def _limit_bytes(name: str) -> int:
    if name == "CONTENT_LENGTH":
        return MAX_LENGTH_DIGITS
    return MAX_PARSED_BYTES if name == "CONTENT_TYPE" or name[5:] in _PARSED else MAX_HEADER_BYTES


def _written(name: str) -> str:
    return name.removeprefix("HTTP_").replace("_", "-").title()


def _length(environ: WSGIEnvironment) -> int | None:
    """Bytes of the body as announced; None where its end is found by reading."""
    digits = environ.get("CONTENT_LENGTH") or ""
    if digits.isascii() and digits.isdigit():
        return int(digits)
    return None if "wsgi.input_terminated" in environ and "HTTP_TRANSFER_ENCODING" in environ else 0


class Body:
    """A request's body, as the server gives it. length_bytes: as announced; None when it is not known.

    Raises `BadRequest` for what the server cannot make a body of: a chunk without a size, a connection that ended.
    """

    def __init__(self, stream: Any, length_bytes: int | None) -> None:
        self._stream = stream
        self._left_bytes = length_bytes

    @property
    def is_unread(self) -> bool:
        """Whether something may still come, which would be taken for the next request."""
        return self._left_bytes != 0

    def read(self, size: int = -1) -> bytes:
        return self._note(size, self._ask(self._stream.read, size))

    def readline(self, size: int = -1) -> bytes:
        return self._note(size, self._ask(self._stream.readline, size))

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readlines(self, hint: int = -1) -> list[bytes]:
        return list(self)

    def __iter__(self) -> Any:
        return iter(self.readline, b"")

    def close(self) -> None:
        """Nothing: it is the server's."""

    @staticmethod
    def _ask(read: Any, size: int) -> bytes:
        try:
            content: bytes = read(size)
        except Exception as error:  # each server has its own
            raise BadRequest("The body breaks off, or is not what its headers say.") from error
        return content

    def _note(self, size: int, content: bytes) -> bytes:
        if not content and size != 0:
            self._left_bytes = 0
        elif self._left_bytes is not None:
            self._left_bytes = max(0, self._left_bytes - len(content))
        return content

"""Headers and bodies before anything parses them."""

from __future__ import annotations

import io
import time

import pytest
from werkzeug.exceptions import BadRequest
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from services.api.wire import (
    _PARSED,
    BODY,
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_PARSED_BYTES,
    REFUSED,
    Body,
    Bounded,
)


def passed_on(**headers: str) -> dict:
    """What the application behind the limits gets of a request."""
    got: dict = {}
    environ = EnvironBuilder("/").get_environ()
    environ |= headers
    Bounded(lambda environ, start: got.update(environ) or [])(environ, lambda *_: lambda _: None)
    return got


@pytest.mark.parametrize(
    ("name", "most", "written"),
    [
        *[(f"HTTP_{name}", MAX_PARSED_BYTES, None) for name in sorted(_PARSED)],
        ("CONTENT_TYPE", MAX_PARSED_BYTES, "Content-Type"),
        ("CONTENT_LENGTH", 18, "Content-Length"),
        ("HTTP_COOKIE", MAX_HEADER_BYTES, "Cookie"),
        ("HTTP_X_REQUEST_ID", MAX_HEADER_BYTES, "X-Request-Id"),
    ],
)
def test_a_header_above_its_limit_is_taken_out_and_named(name, most, written):
    assert REFUSED not in passed_on(**{name: "1" * most})
    got = passed_on(**{name: "1" * (most + 1)})
    assert name not in got
    assert (written or name[5:].replace("_", "-").title()) in got[REFUSED]


def test_headers_are_bounded_in_number_and_together():
    assert REFUSED not in passed_on(**{f"HTTP_X_{n}": "1" for n in range(MAX_HEADERS - 10)})
    for many in ({f"HTTP_X_{n}": "1" for n in range(MAX_HEADERS + 1)}, {f"HTTP_X_{n}": "1" * 8000 for n in range(5)}):
        got = passed_on(**many)
        assert "together" in got[REFUSED]
        assert not any(name.startswith("HTTP_") for name in got)


#: What parsers of lists, parameters, dates, ranges and tags are slow at.
SLOW = (
    *(character for character in " ,;=\"\\'*-/:\t("),
    *("a,", "a/b,", "a;q=1,", "*/*;", ";a=b", ";b*0*=x", "0-1,", 'W/"a",', 'W/"', "en-", "%41", '\\"', " ;", "\t;"),
)
STARTS = ("", "a/b", 'a/b;c="', "bytes=", "bytes 0-", "a=", 'W/"', "Basic ", "Digest a=")


@pytest.mark.parametrize("name", sorted(_PARSED))
def test_no_header_within_the_limits_takes_long_to_parse(name):
    attributes = {
        "ACCEPT": lambda r: r.accept_mimetypes.best_match(["text/html", "application/json", "a/b"]),
        "ACCEPT_CHARSET": lambda r: r.accept_charsets.best_match(["utf-8", "ascii"]),
        "ACCEPT_ENCODING": lambda r: r.accept_encodings.best_match(["gzip", "br"]),
        "ACCEPT_LANGUAGE": lambda r: r.accept_languages.best_match(["en-GB", "de"]),
        "CACHE_CONTROL": lambda r: r.cache_control,
        "IF_MATCH": lambda r: r.if_match,
        "IF_NONE_MATCH": lambda r: r.if_none_match,
        "IF_MODIFIED_SINCE": lambda r: r.if_modified_since,
        "IF_UNMODIFIED_SINCE": lambda r: r.if_unmodified_since,
        "IF_RANGE": lambda r: r.if_range,
        "RANGE": lambda r: r.range,
        "HOST": lambda r: r.host,
        "PRAGMA": lambda r: r.pragma,
        "DATE": lambda r: r.date,
    }
    parse = attributes.get(name, lambda r: (r.mimetype_params, r.access_control_request_headers, r.access_route))
    for start in STARTS:
        for piece in SLOW:
            value = (start + piece * MAX_PARSED_BYTES)[: MAX_PARSED_BYTES - 1] + "x"
            request = Request(passed_on(**{f"HTTP_{name}": value, "CONTENT_TYPE": value}))
            began = time.thread_time()
            parse(request)
            assert time.thread_time() - began < 0.2, (start, piece)


def body(content: bytes, length_bytes: int | None) -> Body:
    return Body(io.BytesIO(content), length_bytes)


def test_a_body_knows_whether_it_was_read_to_its_end():
    announced = body(b"abcdef", 6)
    assert announced.is_unread
    assert (announced.read(4), announced.is_unread) == (b"abcd", True)
    assert (announced.read(), announced.is_unread) == (b"ef", False)
    chunked = body(b"abc", None)
    assert (chunked.read(3), chunked.is_unread) == (b"abc", True)
    assert (chunked.read(1), chunked.is_unread) == (b"", False)
    assert not body(b"", 0).is_unread
    lines = body(b"a\nb", 3)
    assert (lines.readline(), list(lines), lines.is_unread) == (b"a\n", [b"b"], False)
    into = bytearray(2)
    assert (body(b"xyz", 3).readinto(into), into) == (2, b"xy")


@pytest.mark.parametrize(
    ("environ", "unread"),
    [
        ({}, False),
        ({"CONTENT_LENGTH": "5"}, True),
        ({"CONTENT_LENGTH": "0"}, False),
        ({"CONTENT_LENGTH": "-5"}, False),
        ({"wsgi.input_terminated": True}, False),
        ({"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}, True),
    ],
)
def test_where_the_end_of_a_body_is(environ, unread):
    assert passed_on(**environ)[BODY].is_unread is unread


def test_a_body_that_the_server_cannot_read_is_a_bad_request():
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("a chunk of size -1")

    with pytest.raises(BadRequest, match="breaks off"):
        Body(Broken(), None).read()

"""Cookies for the time of one download: some servers answer only to whoever brings theirs back."""

from __future__ import annotations

import re
from email.message import Message
from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit
from urllib.request import Request

from shared.egress.http import Answer

#: More, or longer ones, are not kept; browsers hold to about as much.
MAX_COOKIES, MAX_COOKIE_CHARACTERS = 50, 4096
# The standard library's jar computes with them, and trips over one that is too large for a float.
_AGE_BEYOND_REASON = re.compile(r"(max-age\s*=\s*\d{9})\d+", re.IGNORECASE | re.ASCII)


class Cookies:
    """What the servers on the way handed out, given back to the same ones alone, as a browser would."""

    def __init__(self) -> None:
        self._jar = CookieJar(_Policy(strict_domain=True, strict_ns_domain=DefaultCookiePolicy.DomainStrictNonDomain))

    def take(self, answer: Answer, url: str) -> None:
        """Keep what an answer to this URL hands out."""
        said = _Said()
        for name, value in answer.headers:
            if name == "set-cookie" and len(value) <= MAX_COOKIE_CHARACTERS:
                said.headers["Set-Cookie"] = _AGE_BEYOND_REASON.sub(r"\1", value)
        if len(self._jar) + len(said.headers) <= MAX_COOKIES:
            self._jar.extract_cookies(said, Request(url))  # type: ignore[arg-type]  # it asks for `info` only

    def headers(self, url: str) -> dict[str, str]:
        """The header to send to this URL; none where nothing is to be given back."""
        request = Request(url)
        self._jar.add_cookie_header(request)
        cookie = request.get_header("Cookie")
        return {"Cookie": cookie} if cookie else {}


class _Policy(DefaultCookiePolicy):
    """The standard library's, which takes the end of a numeric address for a domain that others are in too."""

    def set_ok_domain(self, cookie: Cookie, request: Request) -> bool:
        host = urlsplit(request.full_url).hostname or ""
        is_numeric = host[-1:].isdigit() or ":" in host
        if is_numeric and cookie.domain_specified and cookie.domain.lstrip(".") != host:
            return False
        return super().set_ok_domain(cookie, request)


class _Said:
    """The part of an answer that the standard library's jar reads."""

    def __init__(self) -> None:
        self.headers = Message()

    def info(self) -> Message:
        return self.headers

from __future__ import annotations

import pytest

from services.keyframes.fetching.cookies import MAX_COOKIE_CHARACTERS, Cookies
from shared.egress.http import Answer


def handed_out(*values: str) -> Answer:
    return Answer(302, "Found", tuple(("set-cookie", value) for value in values), iter(()))


@pytest.mark.parametrize(
    ("cookie", "url", "sent"),
    [
        ("seen=1; Path=/", "https://a.example/x", {"Cookie": "seen=1"}),
        ("seen=1; Path=/x", "https://a.example/x/y", {"Cookie": "seen=1"}),
        ("seen=1; Path=/x", "https://a.example/z", {}),
        ("seen=1; Secure", "http://a.example/", {}),
        ("seen=1; Domain=a.example", "https://b.a.example/", {"Cookie": "seen=1"}),
        ("seen=1", "https://b.a.example/", {}),
        ("seen=1", "https://other.example/", {}),
        # Nobody sets another's.
        ("seen=1; Domain=other.example", "https://other.example/", {}),
        ("seen=1; Max-Age=0", "https://a.example/", {}),
        ("seen=1; Max-Age=" + "9" * 400, "https://a.example/", {"Cookie": "seen=1"}),
        ("", "https://a.example/", {}),
        ("x" * (MAX_COOKIE_CHARACTERS + 1) + "=1", "https://a.example/", {}),
    ],
)
def test_a_cookie_goes_back_where_it_belongs(cookie: str, url: str, sent: dict[str, str]) -> None:
    cookies = Cookies()
    cookies.take(handed_out(cookie), "https://a.example/x")
    assert cookies.headers(url) == sent


def test_no_more_are_kept_than_a_browser_would() -> None:
    cookies = Cookies()
    for i in range(1000):
        cookies.take(handed_out(f"name{i}={'v' * 1000}"), "https://a.example/")
    assert len(cookies.headers("https://a.example/")["Cookie"]) < 100_000

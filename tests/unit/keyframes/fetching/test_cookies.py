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


@pytest.mark.parametrize(
    ("domain", "url", "other_url"),
    [
        ("0.0.1", "http://10.0.0.1/", "http://11.0.0.1/"),
        (".0.0.1", "http://10.0.0.1:8080/", "http://11.0.0.1:8080/"),
        ("co.uk", "https://a.co.uk/", "https://b.co.uk/"),
        ("com", "https://a.com/", "https://b.com/"),
        (":1]", "http://[fd00::1]/", "http://[fe::1]/"),
    ],
)
def test_no_cookie_is_for_neighbours(domain: str, url: str, other_url: str) -> None:
    cookies = Cookies()
    cookies.take(handed_out(f"seen=1; Domain={domain}"), url)
    assert cookies.headers(other_url) == {}


def test_a_numeric_address_gets_its_own_cookie_back() -> None:
    cookies = Cookies()
    cookies.take(handed_out("seen=1; Domain=10.0.0.1", "more=2"), "http://10.0.0.1:8080/")
    assert cookies.headers("http://10.0.0.1:8080/")["Cookie"] in ("seen=1; more=2", "more=2; seen=1")

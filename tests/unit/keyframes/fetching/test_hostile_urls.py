"""What a hostile URL may try, numbered as in the list of attacks (T1 to T19): directly, and behind the egress proxy.

The rest of the list: T8 to T11 of direct downloads are in test_direct.py, T19 in the tests of `shared.tasks`.
"""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import urllib3

from services.keyframes.fetching.fetch import Fetched, FetchLimits, Reach, fetch
from services.keyframes.fetching.sites import SiteVideo, _ask_child, _outcome, _Request
from shared.egress.proxy import EgressProxy
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError
from tests.fuzz.internet import PUBLIC, Canaries, Internet
from tests.fuzz.site_reader import SiteReader

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 200

PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "169.254.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fd00::1",
    "fe80::1",
    "fec0::1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
]
SPELLINGS = [
    "127.1",
    "0x7f000001",
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "①②⑦.⓪.⓪.①",
    "１２７.0.0.1",
    "127。0。0。1",
    "127.0.0.1.",
    "0",
    "LOCALHOST",
    "localhost.",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
]


def nothing_to_check() -> None: ...


def directly(url: str, folder: Path, limits: FetchLimits) -> Fetched:
    return fetch(url, folder, limits, reach=Reach(), check=nothing_to_check)


def from_page(url: str, folder: Path, limits: FetchLimits) -> Fetched:
    return fetch(url, folder, limits, reach=Reach(), check=nothing_to_check, allow_generic_extractor=True)


@pytest.fixture(scope="module")
def read_page() -> Iterator[Callable[[str, Path, FetchLimits], SiteVideo | None]]:
    """Reads pages like `from_page`, in one process for all tests."""
    with SiteReader() as reader:
        yield lambda url, folder, limits: reader.read(url, folder, limits, Reach())


def failure(get: Callable[..., object], url: str, folder: Path, limits: FetchLimits) -> ReelmapError:
    with pytest.raises(ReelmapError) as caught:
        get(url, folder, limits)
    assert [path for path in folder.rglob("*") if path.suffix not in ("", ".part", ".ytdl")] == []
    return caught.value


def status_behind_the_proxy(url: str, limits: FetchLimits) -> tuple[int, ErrorKind | None]:
    """What a process behind the egress proxy gets for a URL, and what the proxy keeps of it."""
    with EgressProxy(Reach(), limits) as proxy:
        headers = urllib3.make_headers(proxy_basic_auth=proxy.url.removeprefix("http://").partition("@")[0])
        address = f"http://127.0.0.1:{proxy.port}"
        with urllib3.ProxyManager(address, proxy_headers=headers, retries=False) as client:
            status = client.request("GET", url, redirect=False, timeout=10).status
    return status, proxy.refusal and proxy.refusal.kind


@pytest.fixture
def nobody_trapped(internet: Internet) -> Iterator[Internet]:
    yield internet
    assert internet.trapped == []


@pytest.mark.parametrize("address", PRIVATE)
def test_t1_a_name_of_a_private_address_is_not_connected_to(
    address: str, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    nobody_trapped.names["inside.example"] = [[address]]
    error = failure(directly, "http://inside.example/a.mp4", tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, ErrorKind.PRIVATE_ADDRESS)
    assert status_behind_the_proxy("http://inside.example/a.mp4", limits) == (403, ErrorKind.PRIVATE_ADDRESS)


@pytest.mark.parametrize("host", SPELLINGS)
def test_t2_an_odd_spelling_of_loopback_is_not_connected_to(
    host: str, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    error = failure(directly, f"http://{host}/a.mp4", tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, ErrorKind.PRIVATE_ADDRESS)
    if host.isascii():
        assert status_behind_the_proxy(f"http://{host.lower().rstrip('.')}/a.mp4", limits)[0] == 403


@pytest.mark.parametrize("addresses", [["10.0.0.1"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], ["fd00::1"]])
def test_t3_one_private_answer_refuses_the_name(
    addresses: list[str], nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    nobody_trapped.names["mixed.example"] = [addresses]
    assert failure(directly, "http://mixed.example/a.mp4", tmp_path, limits).kind is ErrorKind.PRIVATE_ADDRESS
    assert status_behind_the_proxy("http://mixed.example/a.mp4", limits) == (403, ErrorKind.PRIVATE_ADDRESS)
    assert nobody_trapped.connected == []


def test_t4_a_name_that_changes_meanwhile_is_connected_to_where_it_was_judged(
    web: Any, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    web.serve("/a.mp4", VIDEO)
    url = "http://rebinding.example/a.mp4"
    for get in (
        lambda: directly(url, tmp_path, limits).size_bytes == len(VIDEO),
        lambda: status_behind_the_proxy(url, limits) == (200, None),
    ):
        nobody_trapped.names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
        nobody_trapped.connected.clear()
        assert get()
        assert nobody_trapped.connected == [(PUBLIC, 80)]
    # The second look-up is a second judgement.
    assert status_behind_the_proxy(url, limits) == (403, ErrorKind.PRIVATE_ADDRESS)


def test_t4_a_name_that_changes_between_two_hops_is_judged_again(
    web: Any, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    nobody_trapped.names["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
    web.redirect("/a.mp4", "http://rebinding.example/a.mp4")
    error = failure(directly, "http://rebinding.example/a.mp4", tmp_path, limits)
    assert error.kind is ErrorKind.PRIVATE_ADDRESS
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("http://127.0.0.1/b.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("https://127.0.0.1/b.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("//[::1]/b.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://public.example:6379/b.mp4", ErrorKind.UNSUPPORTED_URL),
        ("file:///etc/passwd", ErrorKind.UNSUPPORTED_URL),
        ("gopher://public.example/_INFO", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example@127.0.0.1/b.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example\\@127.0.0.1/b.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example/a.mp4", ErrorKind.TOO_MANY_REDIRECTS),
    ],
)
def test_t5_a_redirect_leads_nowhere_that_a_url_may_not(
    location: str, kind: ErrorKind, web: Any, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    web.redirect("/a.mp4", location)
    error = failure(directly, "http://public.example/a.mp4", tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, kind)
    assert set(nobody_trapped.connected) == {(PUBLIC, 80)}


def test_t5_the_fourth_of_three_hops_is_not_followed(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    for hop in range(4):
        web.redirect(f"/{hop}.mp4", f"/{hop + 1}.mp4")
    web.serve("/4.mp4", VIDEO)
    error = failure(directly, "http://public.example/0.mp4", tmp_path, limits)
    assert error.kind is ErrorKind.TOO_MANY_REDIRECTS
    assert [path for path, _ in web.requests] == ["/0.mp4", "/1.mp4", "/2.mp4", "/3.mp4"]
    assert directly("http://public.example/1.mp4", tmp_path, limits).size_bytes == len(VIDEO)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://public.example@127.0.0.1/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example:80@127.0.0.1/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://127.0.0.1#@public.example/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://127.0.0.1?@public.example/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://127.0.0.1\\@public.example/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http:\\\\127.0.0.1\\a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://%31%32%37.0.0.1/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example:22/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example:6379/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://public.example:80\r\nHost: inside/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("http://127.0.0.1:6379/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://ⓛocalhost/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ./a.mp4", ErrorKind.PRIVATE_ADDRESS),
    ],
)
def test_t6_a_trick_in_the_spelling_of_a_url_leads_nowhere(
    url: str, kind: ErrorKind, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    error = failure(directly, url, tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, kind)
    assert nobody_trapped.connected == []


PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def page(web: Any, body: str) -> str:
    web.serve(
        "/page", f"<!DOCTYPE html><html><head></head><body>{body}</body></html>".encode(), Content_Type="text/html"
    )
    return "http://public.example/page"


def test_t7_proxies_of_the_environment_have_no_effect(
    web: Any,
    internet: Internet,
    tmp_path: Path,
    limits: FetchLimits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Canaries() as canaries:
        for name in PROXY_VARIABLES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{canaries.ports[0]}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "*")
        web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
        assert directly("http://public.example/a.mp4", tmp_path, limits).size_bytes == len(VIDEO)
        got = from_page(page(web, "<video src='/a.mp4'></video>"), tmp_path, limits)
    assert (got.kind, got.size_bytes) == ("site", len(VIDEO))
    assert (canaries.visits, internet.trapped) == ([], [])
    assert {(PUBLIC, 80)} == set(internet.connected)


def test_t8_no_more_is_read_than_was_announced(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    web.serve("/a.mp4", VIDEO, Content_Length="1000")
    assert directly("http://public.example/a.mp4", tmp_path, limits).size_bytes == 1000


def drip(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "text/html")
    request.end_headers()
    request.wfile.write(b"<!DOCTYPE html><html>")
    while True:
        request.wfile.write(b" ")
        time.sleep(0.1)


def test_t9_the_total_time_holds_against_a_page_that_drips(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    web.answers["/page"] = drip
    for total_timeout_s in (2, 4, 8):  # the child has to start within it, which a busy machine delays
        started_s = time.monotonic()
        hasty = replace(limits, total_timeout_s=total_timeout_s)
        error = failure(from_page, "http://public.example/page", tmp_path, hasty)
        assert (type(error), error.kind) == (PermanentError, ErrorKind.DEADLINE)
        assert time.monotonic() - started_s < total_timeout_s + 2
        if web.requests:
            break
    assert web.requests


def test_t10_a_page_that_unpacks_into_more_than_memory_ends_its_reader_only(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    start = b"<!DOCTYPE html><html><body>"
    # 400 MB in 400 kB; gzip allows one stream after another.
    bomb = gzip.compress(start) + gzip.compress(bytes(50_000_000)) * 8
    web.serve("/page", bomb, Content_Type="text/html", Content_Encoding="gzip")
    error = failure(from_page, "http://public.example/page", tmp_path, replace(limits, max_memory_bytes=300_000_000))
    assert (type(error), error.kind) == (PermanentError, ErrorKind.NOT_A_VIDEO)
    assert "unpack" in error.message


@pytest.mark.parametrize(
    "name", ["../../evil.mp4", "/etc/cron.d/evil", "..\\..\\evil.mp4", "evil.mp4\0.sh", ".bashrc", "a\r\nb", "con.mp4"]
)
def test_t17_a_servers_file_name_names_no_file(
    name: str, web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\n")
        request.wfile.write(f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'.encode() + VIDEO)

    web.answers["/a.mp4"] = answer
    got = directly("http://public.example/a.mp4", tmp_path, limits)
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        got.path.relative_to(tmp_path)
    ]
    assert got.path.name == "file"
    assert got.title is None or not {"/", "\\", "\0", "\n"} & set(got.title)


def test_t17_a_sites_file_name_names_no_file_either(
    web: Any, read_page: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    web.serve("/a", VIDEO, Content_Type="video/mp4", Content_Disposition='attachment; filename="../../evil.mp4"')
    video = read_page("http://public.example/a", tmp_path, limits)
    assert video is not None
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "video.mp4"] == [video.path]
    web.serve("/a", VIDEO, Content_Type="video/mp4", Content_Disposition='attachment; filename="evil.desktop"')
    error = failure(read_page, "http://public.example/a", tmp_path / "b", limits)
    assert (type(error), error.kind) == (PermanentError, ErrorKind.NOT_A_VIDEO)


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("http://127.0.0.1:{canary}/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://0x7f.1:{canary}/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("http://inside.example/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("https://[::1]:{canary}/a.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("/redirect.mp4", ErrorKind.PRIVATE_ADDRESS),
        ("/list.m3u8", ErrorKind.PRIVATE_ADDRESS),
        ("http://public.example:6379/a.mp4", ErrorKind.UNSUPPORTED_URL),
        ("file:///etc/passwd.mp4", None),
        ("rtmp://127.0.0.1:{canary}/a", None),
    ],
)
def test_t18_a_page_leads_to_no_private_address(
    source: str,
    kind: ErrorKind | None,
    web: Any,
    read_page: Any,
    nobody_trapped: Internet,
    tmp_path: Path,
    limits: FetchLimits,
) -> None:
    nobody_trapped.names["inside.example"] = [["10.0.0.1"]]
    web.redirect("/redirect.mp4", "http://169.254.169.254/latest/meta-data")
    segments = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://10.0.0.1/0.ts\n#EXT-X-ENDLIST\n"
    web.serve("/list.m3u8", segments.encode(), Content_Type="application/vnd.apple.mpegurl")
    with Canaries() as canaries:
        url = page(web, f"<video src='{source.format(canary=canaries.ports[0])}'></video>")
        error = failure(read_page, url, tmp_path, limits)
    assert canaries.visits == []
    assert isinstance(error, PermanentError)
    assert error.message.startswith(url)
    assert kind in (None, error.kind)


def test_t18_the_child_that_reads_a_page_is_led_to_no_private_address_either(
    web: Any, nobody_trapped: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    with Canaries() as canaries:
        url = page(web, f"<video src='http://127.0.0.1:{canaries.ports[0]}/a.mp4'></video>")
        error = failure(from_page, url, tmp_path, limits)
    assert canaries.visits == []
    assert (type(error), error.kind) == (PermanentError, ErrorKind.PRIVATE_ADDRESS)
    assert "127.0.0.1 leads to 127.0.0.1, a loopback address" in error.message
    assert list(tmp_path.iterdir()) == []


def test_t18_a_list_of_ten_thousand_videos_is_refused_before_one_is_asked_for(
    web: Any, read_page: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    url = page(web, "".join(f"<video src='/{n}.mp4'></video>" for n in range(10_000)))
    error = failure(read_page, url, tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, ErrorKind.PLAYLIST)
    assert {path for path, _ in web.requests} == {"/page"}


def test_t18_a_live_stream_behind_a_page_is_refused(
    web: Any, read_page: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:4,\n7.ts\n"
    web.serve("/live", playlist.encode(), Content_Type="application/vnd.apple.mpegurl")
    error = failure(read_page, "http://public.example/live", tmp_path, limits)
    assert (type(error), error.kind) == (PermanentError, ErrorKind.LIVE_STREAM)


def test_the_child_can_connect_to_its_proxy_only(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    """Told of one port and given the proxy at another, it is the kernel that stops it."""
    web.serve("/a", VIDEO, Content_Type="video/mp4")
    with EgressProxy(Reach(), limits) as proxy, EgressProxy(Reach(), limits) as other:
        request = _Request("http://public.example/a", str(tmp_path), asdict(limits), True, 0, proxy.url, other.port)
        answer = _ask_child(request, limits, nothing_to_check)
        if "file" in answer:
            pytest.skip("this kernel has no Landlock for TCP")
        assert "Permission denied" in answer["message"]
    assert internet.connected == []


def test_a_video_that_came_past_the_proxy_is_a_defect(tmp_path: Path, limits: FetchLimits) -> None:
    answer = {"claimed": True, "file": "video.mp4", "title": None, "page_url": None}
    with EgressProxy(Reach(), limits) as proxy:
        request = _Request("https://video.example/v", str(tmp_path), asdict(limits), False, 0, proxy.url, proxy.port)
        with pytest.raises(PermanentError, match="past the egress proxy") as caught:
            _outcome(answer, request, limits, proxy)
    assert caught.value.kind is ErrorKind.INTERNAL


def test_a_server_that_a_site_cannot_reach_may_be_reached_later(
    web: Any, read_page: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    url = page(web, "<video src='http://nowhere.invalid/a.mp4'></video>")
    error = failure(read_page, url, tmp_path, limits)
    assert (type(error), error.kind) == (TransientError, ErrorKind.UNREACHABLE)
    assert "nowhere.invalid could not be resolved" in error.message

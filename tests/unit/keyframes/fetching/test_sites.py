"""The real child process with the real yt-dlp, against pages on loopback (read by its generic extractor)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from services.keyframes.fetching import sites
from services.keyframes.fetching.fetch import FetchLimits, Reach
from services.keyframes.fetching.sites import SiteVideo, _parse_answer, fetch_from_site
from shared import landlock
from shared.egress.tcp_fence import missing_fence
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 2000


def nothing_to_check() -> None: ...


LOOPBACK = Reach(allow_private_hosts=True)


def fetch_page(url: str, folder: Path, limits: FetchLimits, reach: Reach = LOOPBACK) -> SiteVideo | None:
    return fetch_from_site(url, folder, limits, reach=reach, check=nothing_to_check, allow_generic_extractor=True)


def failure(url: str, folder: Path, limits: FetchLimits) -> tuple[type[ReelmapError], ErrorKind]:
    with pytest.raises(ReelmapError) as caught:
        fetch_page(url, folder, limits)
    assert url in caught.value.message
    return type(caught.value), caught.value.kind


def page(web: Any, *videos: str, head: str = "") -> str:
    tags = "".join(f'<video src="{video}"></video>' for video in videos)
    body = f"<!DOCTYPE html><html><head><title>A day out</title>{head}</head><body>{tags}</body></html>"
    url: str = web.serve("/page", body.encode(), Content_Type="text/html")
    return url


def test_a_page_of_no_known_site_is_left_alone(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = page(web, "/a.mp4")
    assert fetch_from_site(url, tmp_path, limits, reach=LOOPBACK, check=nothing_to_check) is None
    assert web.requests == []


def test_the_video_of_a_page_is_downloaded(
    web: Any, tmp_path: Path, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    url = page(web, "/a.mp4")
    video = fetch_page(url, tmp_path, limits)
    assert video == SiteVideo(tmp_path / "video.mp4", "A day out (1)", url)
    assert video.path.read_bytes() == VIDEO


def serve_hls(web: Any, *, ended: bool) -> str:
    web.serve("/0.ts", b"\x47" + bytes(187), Content_Type="video/mp2t")
    end = "#EXT-X-ENDLIST\n" if ended else ""
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\n0.ts\n#EXTINF:4,\n1.ts\n{end}"
    web.serve("/list.m3u8", playlist.encode(), Content_Type="application/vnd.apple.mpegurl")
    return page(web, "/list.m3u8")


@pytest.fixture
def tell_tales(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that anything writes into that yt-dlp could find on a person's machine: programs, settings, plugins."""
    told, home = tmp_path_factory.mktemp("told"), tmp_path_factory.mktemp("home")
    tell = f"echo $0 >> {told}/told"
    programs = home / "bin"
    programs.mkdir()
    for name in ("ffmpeg", "ffprobe", "aria2c", "curl", "wget", "axel", "httpie", "rtmpdump", "mplayer", "phantomjs"):
        (programs / name).write_text(f"#!/bin/sh\n{tell}\n")
        (programs / name).chmod(0o755)
    for config in (home / ".config" / "yt-dlp", home / ".yt-dlp"):
        plugin = config / "plugins" / "any" / "yt_dlp_plugins" / "extractor"
        plugin.mkdir(parents=True)
        (plugin / "any.py").write_text(f"import os\nos.system({tell!r})\n")
        (config / "config").write_text(f"--exec {tell!r}\n--downloader aria2c\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.setenv("PYTHONPATH", str(home / ".config" / "yt-dlp" / "plugins" / "any"))
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    return told


def test_segments_are_joined_without_anything_else_that_is_on_the_machine(
    web: Any, tell_tales: Path, tmp_path: Path, limits: FetchLimits
) -> None:
    url = serve_hls(web, ended=True)
    web.serve("/1.ts", b"\x47" + bytes(187), Content_Type="video/mp2t")
    video = fetch_page(url, tmp_path, limits)
    assert video is not None
    assert video.path.stat().st_size == 2 * 188
    assert list(tell_tales.iterdir()) == []
    subprocess.run(["ffmpeg"], check=True)
    assert list(tell_tales.iterdir()) != []


def test_javascript_runs_without_any_permission() -> None:
    """How yt-dlp starts deno is yt-dlp's own; a version that does it in another way is to be looked at."""
    from yt_dlp.extractor.youtube.jsc._builtin.deno import DenoJCP

    options = DenoJCP._DENO_BASE_OPTIONS
    assert {"--no-prompt", "--no-remote", "--no-config", "--no-lock"} <= set(options)
    assert [option for option in options if option.startswith("--allow") or option == "-A"] == []


def test_a_missing_segment_is_not_skipped(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    assert failure(serve_hls(web, ended=True), tmp_path, limits)[1] in (ErrorKind.NOT_FOUND, ErrorKind.UNREACHABLE)


def test_a_live_stream_is_refused(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    serve_hls(web, ended=False)
    assert failure(web.url("/list.m3u8"), tmp_path, limits) == (PermanentError, ErrorKind.LIVE_STREAM)


def test_a_list_of_videos_is_refused(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = page(web, "/a.mp4", "/b.mp4")
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    assert failure(url, tmp_path, limits) == (PermanentError, ErrorKind.PLAYLIST)
    assert [path for path, _ in web.requests if path.endswith(".mp4")] == []


def fetch_list(url: str, folder: Path, limits: FetchLimits, max_listed: int = 10) -> Any:
    return fetch_from_site(
        url,
        folder,
        limits,
        reach=LOOPBACK,
        check=nothing_to_check,
        allow_generic_extractor=True,
        max_listed=max_listed,
    )


def test_a_list_that_is_asked_for_is_told_and_not_fetched(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    listed = fetch_list(page(web, "/a.mp4", "/b.mp4", "/a.mp4", "/c.mp4"), tmp_path, limits)
    assert [entry.url for entry in listed.entries] == [web.url("/a.mp4"), web.url("/b.mp4"), web.url("/c.mp4")]
    assert "A day out" in listed.title
    assert all("A day out" in entry.title for entry in listed.entries)
    assert [path for path, _ in web.requests if path.endswith(".mp4")] == []


def test_of_a_long_list_the_first_entries_are_told(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = page(web, *(f"/{i}.mp4" for i in range(50)))
    assert [entry.url for entry in fetch_list(url, tmp_path, limits, 3).entries] == [
        web.url(f"/{i}.mp4") for i in range(3)
    ]


def test_a_page_with_one_video_is_that_video_also_where_lists_are_asked_for(
    web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    assert fetch_list(page(web, "/a.mp4"), tmp_path, limits).path.read_bytes() == VIDEO


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ({"_type": "url", "url": "https://a.example/watch?v=1", "ie_key": "Youtube"}, "https://a.example/watch?v=1"),
        ({"_type": "url_transparent", "url": "https://a.example/1"}, "https://a.example/1"),
        ({"id": "1", "webpage_url": "https://a.example/1", "formats": [{"url": "x"}]}, "https://a.example/1"),
        ({"id": "1", "webpage_url": "https://a.example/list", "formats": [{"url": "low"}, {"url": "high"}]}, "high"),
        ({"id": "1", "url": "https://cdn.example/1.mp4"}, "https://cdn.example/1.mp4"),
        ({"id": "1"}, None),
    ],
)
def test_where_an_entry_can_be_fetched_by_itself(entry: dict[str, Any], address: str | None) -> None:
    assert sites._address(entry, "https://a.example/list") == address


def test_a_video_that_says_it_is_too_long_is_not_downloaded(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    described = (
        '<script type="application/ld+json">{"@context": "https://schema.org", "@type": "VideoObject", "name": "x", '
        f'"contentUrl": "{web.url("/a.mp4")}", "duration": "PT2M"}}</script>'
    )
    assert failure(page(web, head=described), tmp_path, limits) == (PermanentError, ErrorKind.TOO_LONG)


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "video/mp4")
    request.end_headers()
    while request.command == "GET":
        request.wfile.write(VIDEO)


def test_the_size_limit_holds_while_bytes_come_in(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/a.mp4"] = endless
    assert failure(page(web, "/a.mp4"), tmp_path, limits) == (PermanentError, ErrorKind.TOO_LARGE)
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 5 * limits.max_bytes


def test_the_words_of_yt_dlp_become_kinds(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    assert failure(web.url("/missing"), tmp_path, limits) == (PermanentError, ErrorKind.NOT_FOUND)


class CancelledError(Exception):
    pass


def children() -> list[str]:
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()


def test_what_the_check_raises_kills_the_child(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/page"] = lambda request: time.sleep(5)
    before = children()

    def cancel_once_connected() -> None:
        if web.requests:
            raise CancelledError

    with pytest.raises(CancelledError):
        fetch_from_site(
            web.url("/page"),
            tmp_path,
            limits,
            reach=LOOPBACK,
            check=cancel_once_connected,
            allow_generic_extractor=True,
        )
    assert children() == before


def test_the_total_time_holds(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/page"] = lambda request: time.sleep(5)
    hasty = replace(limits, total_timeout_s=0.1)
    assert failure(web.url("/page"), tmp_path, hasty) == (PermanentError, ErrorKind.DEADLINE)


def test_the_child_dies_with_its_parent(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/page"] = lambda request: time.sleep(20)
    program = (
        "import sys; from pathlib import Path; from services.keyframes.fetching.sites import fetch_from_site\n"
        "from services.keyframes.fetching.fetch import FetchLimits, Reach\n"
        f"fetch_from_site({web.url('/page')!r}, Path({str(tmp_path)!r}), {limits!r}, check=lambda: None,\n"
        "                reach=Reach(allow_private_hosts=True), allow_generic_extractor=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=Path(__file__).parents[4])
    end_s = time.monotonic() + 20
    while not web.requests and time.monotonic() < end_s:
        time.sleep(0.05)
    [child] = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while Path(f"/proc/{child}").exists() and _state(child) != "Z" and time.monotonic() < end_s:
        time.sleep(0.05)
    assert time.monotonic() < end_s


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_a_child_without_an_answer_is_a_fault_of_ours_with_its_last_words() -> None:
    with pytest.raises(TransientError, match="MemoryError") as caught:
        _parse_answer("https://video.example/v", b"", b"Traceback\n  ...\nMemoryError: out of it\n")
    assert caught.value.kind is ErrorKind.INTERNAL


@pytest.fixture
def no_landlock(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A child that finds a kernel without Landlock."""
    home = tmp_path_factory.mktemp("home")
    for package in ("services", "shared"):
        (home / package).symlink_to(sites._REPOSITORY / package)
    (home / "sitecustomize.py").write_text("from shared import landlock\nlandlock.version = lambda: 0\n")
    monkeypatch.setattr(sites, "_REPOSITORY", home)
    monkeypatch.setattr(landlock, "version", lambda: 0)
    sites._say_no_fence.cache_clear()
    yield
    sites._say_no_fence.cache_clear()


def test_a_fence_that_the_kernel_cannot_hold_is_said_once(
    no_landlock: None, web: Any, tmp_path: Path, limits: FetchLimits, caplog: pytest.LogCaptureFixture
) -> None:
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    url = page(web, "/a.mp4")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        assert fetch_page(url, tmp_path / name, limits) is not None
    assert [record.message for record in caplog.records] == [missing_fence()]


@pytest.mark.skipif(missing_fence() is not None, reason="this kernel has no Landlock for TCP")
def test_a_fence_that_stands_is_not_spoken_of(
    web: Any, tmp_path: Path, limits: FetchLimits, caplog: pytest.LogCaptureFixture
) -> None:
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    assert fetch_page(page(web, "/a.mp4"), tmp_path, limits) is not None
    assert caplog.records == []

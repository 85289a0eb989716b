from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.keyframes.fetching.fetch import Fetched, FetchLimits, Reach, VideoList, _clean_title, fetch
from shared.errors import ErrorKind, PermanentError, ReelmapError

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 200


def nothing_to_check() -> None: ...


def get(
    url: str,
    folder: Path,
    limits: FetchLimits,
    *,
    allow_private_hosts: bool = True,
    allow_generic_extractor: bool = False,
    max_listed: int = 0,
) -> Any:
    return fetch(
        url,
        folder,
        limits,
        reach=Reach(allow_private_hosts),
        check=nothing_to_check,
        allow_generic_extractor=allow_generic_extractor,
        max_listed=max_listed,
    )


def test_a_file_is_fetched_without_asking_yt_dlp(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = web.serve("/clips/My%20clip.MP4", VIDEO)
    got = get(f" {url}#t=10 ", tmp_path, limits)
    assert got.path.is_relative_to(tmp_path)
    assert got.path.read_bytes() == VIDEO
    assert got == Fetched(got.path, hashlib.sha256(VIDEO).hexdigest(), len(VIDEO), "My clip.MP4", url, "file")


def test_an_address_that_names_no_file_type_is_fetched_too(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    got = get(web.serve("/watch", VIDEO), tmp_path, limits)
    assert (got.kind, got.title, got.size_bytes) == ("file", "watch", len(VIDEO))


def test_a_page_is_read_by_yt_dlp_where_that_is_allowed(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.serve("/a.mp4", VIDEO, Content_Type="video/mp4")
    body = b"<!DOCTYPE html><html><head><title>A  day\tout</title></head><video src='/a.mp4'></video></html>"
    for path in ("/page", "/page.webm"):  # some sites end their pages' addresses like files
        url = web.serve(path, body, Content_Type="text/html")
        got = get(url, tmp_path, limits, allow_generic_extractor=True)
        assert got == Fetched(got.path, hashlib.sha256(VIDEO).hexdigest(), len(VIDEO), "A day out (1)", url, "site")
    with pytest.raises(PermanentError, match="a web page instead of a video"):
        get(web.url("/page.webm"), tmp_path, limits)


def test_two_fetches_into_one_folder_do_not_meet(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = web.serve("/a.mp4", VIDEO)
    assert get(url, tmp_path, limits).path != get(url, tmp_path, limits).path


@pytest.mark.parametrize("path", ["/a.mp4", "/page"])
def test_loopback_needs_the_setting(path: str, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    with pytest.raises(PermanentError, match="REELMAP_ALLOW_PRIVATE_HOSTS") as caught:
        get(web.serve(path, VIDEO), tmp_path, limits, allow_private_hosts=False, allow_generic_extractor=True)
    assert caught.value.kind is ErrorKind.PRIVATE_ADDRESS
    assert web.requests == []


class CancelledError(Exception):
    pass


def test_nothing_is_left_after_an_error(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = web.serve("/a.mp4", VIDEO, Content_Length=str(len(VIDEO) + 1))
    with pytest.raises(ReelmapError):
        get(url, tmp_path, limits)
    with pytest.raises(ReelmapError):
        get(web.serve("/b.mp4", VIDEO, Content_Length=""), tmp_path, replace(limits, max_bytes=100))

    def cancelled() -> None:
        raise CancelledError

    with pytest.raises(CancelledError):
        fetch(web.url("/page"), tmp_path, limits, reach=Reach(allow_private_hosts=True), check=cancelled)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["upload:abc", "file:///etc/passwd", "nonsense"])
def test_what_is_not_on_the_web_is_not_fetched(url: str, tmp_path: Path, limits: FetchLimits) -> None:
    with pytest.raises(PermanentError) as caught:
        get(url, tmp_path, limits)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_URL


@pytest.mark.parametrize(
    ("title", "clean"),
    [
        (None, None),
        ("", None),
        (" \u202e\x00 ", None),
        ("A\r\nSet-Cookie: x", "A Set-Cookie: x"),
        ("gpj\u202e.mp4", "gpj.mp4"),
        ("u\u0308ber", "über"),
        ("\ud800x", "x"),
        ("日本語 🎬", "日本語 🎬"),
        ("x" * 1000, "x" * 200),
    ],
)
def test_titles_are_fit_to_be_shown(title: str | None, clean: str | None) -> None:
    assert _clean_title(title) == clean


def listing(web: Any, *videos: str) -> str:
    tags = "".join(f'<video src="{video}"></video>' for video in videos)
    body = f"<!DOCTYPE html><html><head><title>A day\x1b[1m out</title></head><body>{tags}</body></html>"
    url: str = web.serve("/page", body.encode(), Content_Type="text/html")
    return url


def test_the_entries_of_a_list_are_in_our_spelling_and_fit_to_be_shown(
    web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    url = listing(web, "/b%20c.mp4#t=1", "/b c.mp4", "ftp://a.example/d.mp4", "s3://bucket/e.mp4", "upload:f", "/a.mp4")
    listed = get(url, tmp_path, limits, allow_generic_extractor=True, max_listed=10)
    assert isinstance(listed, VideoList)
    assert [entry.url for entry in listed.entries] == [web.url("/b%20c.mp4"), web.url("/a.mp4")]
    assert all((entry.title or "").isprintable() for entry in listed.entries)
    assert list(tmp_path.glob("*/*")) == []


def test_a_list_without_one_address_that_can_be_fetched_is_refused(
    web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    url = listing(web, "rtmp://a.example/d.mp4", "rtmp://a.example/e.mp4")
    with pytest.raises(PermanentError) as caught:
        get(url, tmp_path, limits, allow_generic_extractor=True, max_listed=10)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_URL

from __future__ import annotations

import pytest

from shared.buckets import BucketPlace
from shared.errors import ErrorKind, PermanentError
from shared.urls import not_opened, parse_source_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("  http://example.com/a.mp4 \n", "http://example.com/a.mp4"),
        ("HTTP://EXAMPLE.com/A.mp4", "http://example.com/A.mp4"),
        ("https://example.com:443/a", "https://example.com/a"),
        ("http://example.com:80", "http://example.com/"),
        ("http://example.com:8080/a", "http://example.com:8080/a"),
        ("http://example.com:/a", "http://example.com/a"),
        ("https://example.com/a?b=1&c=%2F#t=10", "https://example.com/a?b=1&c=%2F"),
        ("https://example.com?v=1", "https://example.com/?v=1"),
        ("https://example.com/my video.mp4", "https://example.com/my%20video.mp4"),
        ("https://example.com/füße.mp4?q=ü", "https://example.com/f%C3%BC%C3%9Fe.mp4?q=%C3%BC"),
        ("https://example.com./a", "https://example.com/a"),
        ("https://straße.example/a", "https://xn--strae-oqa.example/a"),
        ("https://例え.jp/", "https://xn--r8jz45g.jp/"),
        ("http://[::1]:8000/a", "http://[::1]:8000/a"),
        ("http://[0:0:0:0:0:0:0:1]/a", "http://[::1]/a"),
        ("upload:0b1c2d3e-aa", "upload:0b1c2d3e-aa"),
        (" S3://bucket/Films/a.MP4 ", "s3://bucket/Films/a.MP4"),
        # A key is taken letter by letter: nothing in it is decoded, encoded, normalised or split off.
        ("s3://my-bucket.1/a%20b+c d.mp4?v=1#t", "s3://my-bucket.1/a%20b+c d.mp4?v=1#t"),
        ("s3://bucket/cafe\u0301/%2e%2e/a.mp4", "s3://bucket/cafe\u0301/%2e%2e/a.mp4"),
        ("s3://bucket//a...mp4", "s3://bucket//a...mp4"),
    ],
)
def test_one_spelling_for_what_is_the_same_url(text: str, url: str) -> None:
    assert parse_source_url(text).url == url
    assert parse_source_url(url).url == url


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://Www.Example.COM:8443/x", "www.example.com"),
        ("http://[2001:DB8::1]/x", "2001:db8::1"),
        ("http://127.1/x", "127.1"),
        ("http://①②⑦.0.0.1/x", "127.0.0.1"),
        ("upload:abc", "upload"),
        ("s3://videos.example/a", "s3://videos.example"),
    ],
)
def test_the_host_for_the_limit_per_host(text: str, host: str) -> None:
    assert parse_source_url(text).limit_key == host


def test_the_parts_are_those_a_request_needs() -> None:
    source = parse_source_url("https://example.com:8443/a b?c=d#e")
    assert (source.scheme, source.port, source.target) == ("https", 8443, "/a%20b?c=d")
    assert source.authority == "example.com:8443"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("example.com/a.mp4", "http://"),
        ("ftp://example.com/a.mp4", "http://"),
        ("file:///etc/passwd", "http://"),
        ("javascript:alert(1)", "http://"),
        ("data:video/mp4;base64,AAAA", "http://"),
        ("http://", "no host"),
        ("http:///a.mp4", "no host"),
        ("https://me:secret@example.com/", "user name"),
        ("http://good.example\\@127.0.0.1/", "backslash"),
        ("http://example.com/\x00a", "control"),
        ("http://exa\tmple.com/", "control"),
        ("https://a.example/\ud800", "surrogate"),
        ("rtmp://bucket/key.mp4", "http://, https:// or s3://"),
        ("s3://", "s3://bucket/key"),
        ("s3:///key.mp4", "s3://bucket/key"),
        ("s3://Bucket/key.mp4", "s3://bucket/key"),
        ("s3://me:secret@bucket/key.mp4", "s3://bucket/key"),
        ("s3://bucket:80/key.mp4", "s3://bucket/key"),
        ("s3://b..t/key.mp4", "s3://bucket/key"),
        ("s3://bucket%2Fother/key.mp4", "s3://bucket/key"),
        ("s3://bucket?/key.mp4", "s3://bucket/key"),
        ("s3://bucket", "each video in it"),
        ("s3://bucket/", "each video in it"),
        ("s3://bucket/videos/", "each video in it"),
        ("s3://bucket/videos/../secret.mp4", "part . or .."),
        ("s3://bucket/../other/a.mp4", "part . or .."),
        ("s3://bucket/./a.mp4", "part . or .."),
        ("s3://bucket/videos/..", "part . or .."),
        ("s3://bucket/videos\\..\\a.mp4", "backslash"),
        ("s3://bucket/a\nb.mp4", "control"),
        ("s3://bucket/a\u202e4pm.exe", "cannot be seen"),
        ("s3://bucket/" + "é" * 513, "longer than 1024 bytes"),
        ("http://example.com:99999/", "malformed"),
        ("http://example.com:x/", "malformed"),
        ("http://example.com:0/", "port 0"),
        ("http://[::1", "malformed"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
        ("http://exa mple.com/", "valid name"),
        ("http://" + "a" * 64 + ".com/", "valid name"),
        ("http://a..b/", "valid name"),
        ("http://\u2028.com/", "international"),
        ("http://example.com/" + "a" * 2048, "longer"),
        ("upload:../../etc", "upload:<id>"),
        ("upload:", "upload:<id>"),
        ("upload://abc", "upload:<id>"),
    ],
)
def test_anything_else_is_refused_with_a_reason(text: str, word: str) -> None:
    with pytest.raises(PermanentError, match=r"cannot be used as a video's address") as caught:
        parse_source_url(text)
    assert caught.value.kind is ErrorKind.UNSUPPORTED_URL
    assert word in caught.value.message


def test_a_password_is_not_repeated_in_the_reason() -> None:
    with pytest.raises(PermanentError) as caught:
        parse_source_url("https://me:secret@example.com/a.mp4")
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("s3://archive/any/key.mp4", True),
        ("s3://shared/videos/a.mp4", True),
        ("s3://shared/videos//a.mp4", True),
        ("s3://shared/videos/%2e%2e/secret.mp4", True),  # a key that is really called so
        ("s3://shared/videos", False),
        ("s3://shared/videos-secret/a.mp4", False),
        ("s3://shared/Videos/a.mp4", False),
        ("s3://shared/other/videos/a.mp4", False),
        ("s3://shared//videos/a.mp4", False),
        ("s3://archive2/a.mp4", False),
        ("s3://archiv/a.mp4", False),
    ],
)
def test_a_place_opens_what_lies_below_it_and_nothing_beside_it(url: str, is_open: bool) -> None:
    assert parse_source_url(url).is_in([BucketPlace("archive", ""), BucketPlace("shared", "videos/")]) is is_open


def test_who_asks_for_what_is_not_opened_is_told_what_to_do_and_not_what_is() -> None:
    error = not_opened(parse_source_url("s3://bucket/a.mp4"))
    assert error.kind is ErrorKind.FORBIDDEN
    assert error.message == (
        "“s3://bucket/a.mp4” cannot be used as a video's address: this Reelmap does not fetch from there. Ask who runs "
        "it to name the bucket in REELMAP_S3_SOURCES, or download the video and upload it."
    )

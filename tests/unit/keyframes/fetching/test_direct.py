from __future__ import annotations

import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from services.keyframes.fetching.direct import Download, download
from services.keyframes.fetching.fetch import FetchLimits, Reach
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError
from shared.urls import parse_source_url
from tests.fuzz.internet import Internet

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(range(256)) * 2000


def nothing_to_check() -> None: ...


def get(url: str, path: Path, limits: FetchLimits, allow_private_hosts: bool = True) -> Download:
    return download(parse_source_url(url), path, limits, reach=Reach(allow_private_hosts), check=nothing_to_check)


def failure(url: str, path: Path, limits: FetchLimits, allow_private_hosts: bool = True) -> ReelmapError:
    with pytest.raises(ReelmapError) as caught:
        get(url, path, limits, allow_private_hosts)
    return caught.value


def outcome(error: ReelmapError) -> tuple[type[ReelmapError], ErrorKind]:
    return type(error), error.kind


def test_a_file_arrives_whole_and_hashed(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    got = get(web.serve("/clips/a.mp4", VIDEO), tmp_path / "file", limits)
    assert (tmp_path / "file").read_bytes() == VIDEO
    assert got == Download(hashlib.sha256(VIDEO).hexdigest(), len(VIDEO), "a.mp4", web.url("/clips/a.mp4"))


def test_the_request_is_plain(web: Any, tmp_path: Path, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    web.serve("/a b.mp4".replace(" ", "%20"), VIDEO)
    get(web.url("/a b.mp4?x=1&y=%2F#t=5"), tmp_path / "file", limits)
    [(path, headers)] = web.requests
    assert path == "/a%20b.mp4?x=1&y=%2F"
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Host"] == f"127.0.0.1:{web.port}"


@pytest.mark.parametrize(
    ("path", "disposition", "name"),
    [
        ("/a/b.mp4?c=d/e", "", "b.mp4"),
        ("/a%20b%2F..%2Fc.mp4", "", "c.mp4"),
        ("/", "", None),
        ("/x", 'attachment; filename="my film.mp4"', "my film.mp4"),
        ("/x", "attachment; filename*=UTF-8''f%C3%BC%C3%9Fe.mp4", "füße.mp4"),
        ("/x", 'attachment; filename="../../etc/passwd"', "passwd"),
        ("/x", 'attachment; filename="C:\\\\temp\\\\a.mp4"', "a.mp4"),
        ("/x", "inline", "x"),
    ],
)
def test_the_name_of_the_file(
    path: str, disposition: str, name: str | None, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    """T17"""
    web.serve(path.partition("?")[0], VIDEO, Content_Disposition=disposition)
    assert get(web.url(path), tmp_path / "file", limits).file_name == name


def test_redirects_are_followed_to_the_limit(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.redirect("/1", "/2", 301)
    web.redirect("/2", web.url("/3"), 307)
    web.redirect("/3", "a.mp4", 308)
    web.serve("/a.mp4", VIDEO)
    got = get(web.url("/1"), tmp_path / "file", limits)
    assert (got.final_url, got.file_name) == (web.url("/a.mp4"), "a.mp4")
    error = failure(web.url("/1"), tmp_path / "other", replace(limits, max_redirects=2))
    assert outcome(error) == (PermanentError, ErrorKind.TOO_MANY_REDIRECTS)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/a.mp4",
        "upload:abc",
        "http://a:b@c/",
    ],
)
def test_a_redirect_leads_nowhere_but_to_the_web(location: str, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    error = failure(web.redirect("/a.mp4", location), tmp_path / "file", limits)
    assert outcome(error) == (PermanentError, ErrorKind.UNSUPPORTED_URL)
    assert web.url("/a.mp4") in error.message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "[::1]", "[::ffff:127.0.0.1]"])
def test_loopback_is_not_connected_to_in_any_spelling(host: str, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.serve("/a.mp4", VIDEO)
    error = failure(f"http://{host}:{web.port}/a.mp4", tmp_path / "file", limits, allow_private_hosts=False)
    assert outcome(error) == (PermanentError, ErrorKind.PRIVATE_ADDRESS)
    assert web.requests == []


def test_a_redirect_is_judged_like_a_first_request(
    web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits
) -> None:
    internet.names["inside.example"] = [["10.0.0.1"]]
    web.redirect("/a.mp4", "http://inside.example/b.mp4")
    error = failure("http://public.example/a.mp4", tmp_path / "file", limits, allow_private_hosts=False)
    assert outcome(error) == (PermanentError, ErrorKind.PRIVATE_ADDRESS)
    assert "inside.example" in error.message
    assert internet.trapped == []


def test_the_host_is_kept_in_the_request(web: Any, internet: Internet, tmp_path: Path, limits: FetchLimits) -> None:
    web.serve("/a.mp4", VIDEO)
    url = "http://public.example/a.mp4"
    assert get(url, tmp_path / "file", limits, allow_private_hosts=False).final_url == url
    assert web.requests[0][1]["Host"] == "public.example"


def test_tls_names_the_host_and_not_the_address(internet: Internet, tmp_path: Path, limits: FetchLimits) -> None:
    internet.names["video.example"] = [["127.0.0.1"]]
    hellos: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def read_hello() -> None:
            connection, _ = listener.accept()
            with connection:
                hellos.append(connection.recv(4096))

        thread = threading.Thread(target=read_hello)
        thread.start()
        error = failure(f"https://video.example:{listener.getsockname()[1]}/a.mp4", tmp_path / "file", limits)
        thread.join()
    assert b"video.example" in hellos[0]
    assert outcome(error) == (TransientError, ErrorKind.UNREACHABLE)


def test_the_announced_size_is_refused_before_anything_is_read(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    error = failure(web.serve("/a.mp4", VIDEO), tmp_path / "file", replace(limits, max_bytes=1000))
    assert outcome(error) == (PermanentError, ErrorKind.TOO_LARGE)
    assert not (tmp_path / "file").exists()


def endless(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(VIDEO)


def endless_chunks(request: BaseHTTPRequestHandler) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    while True:
        request.wfile.write(b"%x\r\n%s\r\n" % (len(VIDEO), VIDEO))


@pytest.mark.parametrize("answer", [endless, endless_chunks])
def test_the_size_limit_holds_while_reading(answer: Any, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    """T8"""
    web.answers["/a.mp4"] = answer
    error = failure(web.url("/a.mp4"), tmp_path / "file", limits)
    assert outcome(error) == (PermanentError, ErrorKind.TOO_LARGE)
    assert (tmp_path / "file").stat().st_size <= limits.max_bytes


def test_a_body_that_breaks_off_may_come_whole_another_time(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    url = web.serve("/a.mp4", VIDEO, Content_Length=str(len(VIDEO) + 1))
    assert outcome(failure(url, tmp_path / "file", limits)) == (TransientError, ErrorKind.UNREACHABLE)


def broken_chunks(request: BaseHTTPRequestHandler) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.wfile.write(b"%x\r\n%s\r\n" % (len(VIDEO), VIDEO))


def no_http(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


@pytest.mark.parametrize("answer", [broken_chunks, no_http, hang_up])
def test_a_broken_conversation_may_go_better_another_time(
    answer: Any, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    web.answers["/a.mp4"] = answer
    assert outcome(failure(web.url("/a.mp4"), tmp_path / "file", limits)) == (TransientError, ErrorKind.UNREACHABLE)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.mp4", "http://nowhere.invalid/a.mp4"])
def test_nobody_there_may_change(url: str, tmp_path: Path, limits: FetchLimits) -> None:
    assert outcome(failure(url, tmp_path / "file", limits)) == (TransientError, ErrorKind.UNREACHABLE)


def silent(request: BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def test_a_silent_server_is_not_waited_for(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/a.mp4"] = silent
    error = failure(web.url("/a.mp4"), tmp_path / "file", replace(limits, read_timeout_s=0.3))
    assert outcome(error) == (TransientError, ErrorKind.UNREACHABLE)
    assert "timed out" in error.message


def drip_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        request.wfile.write(b"x")
        time.sleep(0.1)


def drip_body(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    while True:
        request.wfile.write(b"\0")
        time.sleep(0.1)


@pytest.mark.parametrize("answer", [drip_headers, drip_body])
def test_the_total_time_holds_against_a_server_that_drips(
    answer: Any, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    """T9"""
    web.answers["/a.mp4"] = answer
    started_s = time.monotonic()
    error = failure(web.url("/a.mp4"), tmp_path / "file", replace(limits, total_timeout_s=0.6))
    assert outcome(error) == (PermanentError, ErrorKind.DEADLINE)
    assert time.monotonic() - started_s < 2


class CancelledError(Exception):
    pass


@pytest.mark.parametrize("answer", [silent, drip_body, endless])
def test_what_the_check_raises_ends_the_transfer_at_once(
    answer: Any, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    web.answers["/a.mp4"] = answer

    def cancelled() -> None:
        raise CancelledError

    started_s = time.monotonic()
    with pytest.raises(CancelledError):
        download(
            parse_source_url(web.url("/a.mp4")),
            tmp_path / "file",
            replace(limits, max_bytes=10**9, read_timeout_s=30),
            reach=Reach(allow_private_hosts=True),
            check=cancelled,
        )
    assert time.monotonic() - started_s < 2
    assert not [thread for thread in threading.enumerate() if thread.name == "download"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"<!DOCTYPE html><html><body>Please log in</body></html>", "text/html"),
        (b"\xef\xbb\xbf \n<HTML>", "video/mp4"),
        (b"Please log in", "text/html; charset=utf-8"),
    ],
)
def test_a_web_page_is_not_a_video(
    body: bytes, content_type: str, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    """T11"""
    error = failure(web.serve("/a.mp4", body, Content_Type=content_type), tmp_path / "file", limits)
    assert outcome(error) == (PermanentError, ErrorKind.NOT_A_VIDEO)
    assert "a web page instead of a video" in error.message


def test_a_video_labelled_as_a_web_page_is_still_a_video(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    assert get(web.serve("/a", VIDEO, Content_Type="text/html"), tmp_path / "file", limits).size_bytes == len(VIDEO)


def test_nothing_that_unpacks_into_more_is_accepted(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    """T10"""
    error = failure(web.serve("/a.mp4", VIDEO, Content_Encoding="gzip"), tmp_path / "file", limits)
    assert outcome(error) == (PermanentError, ErrorKind.NOT_A_VIDEO)


@pytest.mark.parametrize("encoding", ["aws-chunked", "UTF-8", " ", "identity", "none", "binary", "aws-chunked,utf-8"])
def test_encodings_that_pack_nothing_are_no_matter(
    encoding: str, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    url = web.serve("/a.mp4", VIDEO, Content_Encoding=encoding)
    assert get(url, tmp_path / "file", limits).size_bytes == len(VIDEO)


@pytest.mark.parametrize("encoding", ["br", "x-gzip", "aws-chunked, gzip", "ZSTD"])
def test_encodings_that_pack_are_named(encoding: str, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    error = failure(web.serve("/a.mp4", VIDEO, Content_Encoding=encoding), tmp_path / "file", limits)
    assert outcome(error) == (PermanentError, ErrorKind.NOT_A_VIDEO)
    assert encoding.lower().rpartition(" ")[2] in error.message


@pytest.mark.parametrize("cookie", ["seen=1", "seen=ja, für Sie", "seen=\xff"])
def test_a_cookie_that_a_redirect_hands_out_is_brought_back(
    cookie: str, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if cookie in request.headers.get("Cookie", ""):
            request.send_response(200)
            request.end_headers()
            request.wfile.write(VIDEO)
            return
        request.send_response(302)
        request.send_header("Location", request.path)
        request.send_header("Set-Cookie", f"{cookie}; Path=/")
        request.end_headers()

    web.answers["/a.mp4"] = answer
    assert get(web.url("/a.mp4"), tmp_path / "file", limits).size_bytes == len(VIDEO)


@pytest.mark.parametrize(
    ("span", "is_taken"),
    [
        (f"bytes 0-{len(VIDEO) - 1}/{len(VIDEO)}", True),
        (f"Bytes 0-{len(VIDEO) - 1}/{len(VIDEO)}", True),
        (f"bytes 0-{len(VIDEO) - 1}/{2 * len(VIDEO)}", False),
        (f"bytes 1-{len(VIDEO)}/{len(VIDEO) + 1}", False),
        (f"bytes 0-{len(VIDEO) - 1}/*", False),
        (f"bytes 0-{'9' * 5000}/{'9' * 5000}", False),
        ("", False),
    ],
)
def test_a_range_nobody_asked_for_is_the_file_where_it_is_all_of_it(
    span: str, is_taken: bool, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    url = web.serve("/a.mp4", VIDEO, 206, Content_Range=span)
    if is_taken:
        assert get(url, tmp_path / "file", limits).size_bytes == len(VIDEO)
    else:
        assert outcome(failure(url, tmp_path / "file", limits)) == (TransientError, ErrorKind.SERVER_ERROR)


def test_hints_before_the_answer_are_not_the_answer(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n")
        request.send_response(200)
        request.end_headers()
        request.wfile.write(VIDEO)

    web.answers["/a.mp4"] = answer
    assert get(web.url("/a.mp4"), tmp_path / "file", limits).size_bytes == len(VIDEO)


@pytest.mark.parametrize("header", ["Content-Disposition", "Retry-After", "Content-Range", "Set-Cookie", "Location"])
@pytest.mark.parametrize("value", [";" * 60_000, "a=1;" * 15_000, '"' * 60_000, "9" * 60_000, "=?utf-8?q?" * 6000])
def test_no_header_keeps_the_thread_of_a_download_busy(
    header: str, value: str, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        status = {"Retry-After": 429, "Content-Range": 206, "Set-Cookie": 302, "Location": 302}.get(header, 200)
        lines = f"HTTP/1.1 {status} x\r\n{header}: {value}\r\nLocation: /b.mp4\r\n\r\n"
        request.wfile.write(lines.encode() + VIDEO)

    web.answers["/a.mp4"] = answer
    web.serve("/b.mp4", VIDEO)
    started_s = time.process_time()
    with suppress(ReelmapError):
        get(web.url("/a.mp4"), tmp_path / "file", limits)
    assert time.process_time() - started_s < 1


def test_a_servers_words_steer_no_terminal(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        words = "\x1b[2J\x9b1m\u202egnp " + "very " * 200
        request.wfile.write(b"HTTP/1.1 404 " + words.encode() + b"\r\nContent-Length: 0\r\n\r\n")

    web.answers["/a.mp4"] = answer
    error = failure(web.url("/a.mp4"), tmp_path / "file", limits)
    assert error.kind is ErrorKind.NOT_FOUND
    assert error.message.isprintable()
    assert len(error.message) < 400


def test_an_empty_file_is_said_to_be_empty(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    assert outcome(failure(web.serve("/a.mp4"), tmp_path / "file", limits)) == (PermanentError, ErrorKind.EMPTY)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, (PermanentError, ErrorKind.NOT_FOUND)),
        (410, (PermanentError, ErrorKind.REMOVED)),
        (401, (PermanentError, ErrorKind.LOGIN_REQUIRED)),
        (403, (PermanentError, ErrorKind.FORBIDDEN)),
        (500, (TransientError, ErrorKind.SERVER_ERROR)),
        (304, (PermanentError, ErrorKind.FORBIDDEN)),
    ],
)
def test_statuses_become_kinds(status: int, expected: Any, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    assert outcome(failure(web.serve("/a.mp4", status=status), tmp_path / "file", limits)) == expected


@pytest.mark.parametrize(
    ("header", "least_s", "most_s"),
    [
        (lambda: "7", 7, 7),
        (lambda: "99999999", 86400, 86400),
        (lambda: formatdate(time.time() + 100, usegmt=True), 90, 100),
        (lambda: formatdate(0, usegmt=True), 0, 0),
    ],
)
def test_the_time_a_throttling_server_asks_for_is_kept(
    header: Callable[[], str], least_s: float, most_s: float, web: Any, tmp_path: Path, limits: FetchLimits
) -> None:
    error = failure(web.serve("/a.mp4", status=429, Retry_After=header()), tmp_path / "file", limits)
    assert isinstance(error, TransientError)
    assert error.kind is ErrorKind.THROTTLED
    assert error.retry_after_s is not None
    assert least_s <= error.retry_after_s <= most_s


@pytest.mark.parametrize("header", ["", "soon", "-1"])
def test_no_time_or_nonsense_is_no_time(header: str, web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    error = failure(web.serve("/a.mp4", status=429, Retry_After=header), tmp_path / "file", limits)
    assert isinstance(error, TransientError)
    assert error.retry_after_s is None


def test_a_disk_without_room_is_noticed_before(web: Any, tmp_path: Path, limits: FetchLimits) -> None:
    web.answers["/a.mp4"] = endless
    free_bytes = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    error = failure(web.url("/a.mp4"), tmp_path / "file", replace(limits, max_bytes=free_bytes))
    assert outcome(error) == (TransientError, ErrorKind.DISK_FULL)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, which Linux has")
def test_a_disk_that_fills_up_is_not_mistaken_for_the_network(
    web: Any, tmp_path: Path, limits: FetchLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda *_, **__: open("/dev/full", "wb", buffering=0))  # noqa: SIM115
    error = failure(web.serve("/a.mp4", VIDEO), tmp_path / "file", limits)
    assert outcome(error) == (TransientError, ErrorKind.DISK_FULL)
    assert os.strerror(errno.ENOSPC) in error.message

"""Videos out of buckets: from a real server that speaks S3, and from one whose every answer is written here."""

from __future__ import annotations

import hashlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.keyframes.fetching.fetch import Buckets, Fetched, FetchLimits, Reach, fetch
from shared.buckets import BucketPlace
from shared.errors import ErrorKind, PermanentError, ReelmapError, TransientError
from shared.s3 import S3
from shared.settings import Settings
from tests.object_store import refusal

_numbers = itertools.count(1)


@pytest.fixture
def bucket(object_store) -> str:
    """The name of a bucket that holds nothing yet."""
    return str(object_store.new_bucket()["blobs_bucket"].rstrip("/"))


@pytest.fixture
def client(object_store) -> Iterator[Any]:
    client = S3(Settings(**object_store.settings("any"))).client
    yield client
    client.close()


def take(
    url: str,
    folder: Path,
    limits: FetchLimits,
    endpoint: str,
    places: list[tuple[str, str]],
    check: Callable[[], None] = lambda: None,
) -> Fetched:
    settings = Settings(s3_endpoint=endpoint, s3_access_key="test", s3_secret_key="test")
    store = S3(settings, read_timeout_s=limits.read_timeout_s, attempts=1)
    buckets = Buckets([BucketPlace(*place) for place in places], lambda: store.client)
    try:
        return fetch(url, folder, limits, reach=Reach(), check=check, buckets=buckets)
    finally:
        store.client.close()


def failure(*arguments: Any, **named: Any) -> ReelmapError:
    with pytest.raises(ReelmapError) as caught:
        take(*arguments, **named)
    assert caught.value.message.endswith(".") and "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("key", ["films/a.mp4", "a%20b+c d.mp4?v=1#t", "films//größe/…/a.mp4", "%2e%2e/a", "plain"])
def test_an_object_is_brought_whole_under_exactly_its_key(client, bucket, object_store, tmp_path, limits, key) -> None:
    content = bytes(range(256)) * 3000
    client.put_object(Bucket=bucket, Key=key, Body=content)
    fetched = take(f"s3://{bucket}/{key}", tmp_path, limits, object_store.endpoint, [(bucket, "")])
    assert fetched.path.read_bytes() == content
    assert (fetched.sha256, fetched.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert (fetched.title, fetched.final_url) == (key.rpartition("/")[2], f"s3://{bucket}/{key}")


def test_what_is_not_opened_is_not_asked_for(bucket, tmp_path, limits) -> None:
    def connect() -> Any:
        raise AssertionError("asked for a client")

    for buckets in (None, Buckets([BucketPlace(bucket, "videos/")], connect)):
        with pytest.raises(PermanentError, match="does not fetch from there") as caught:
            fetch(
                f"s3://{bucket}/videos-secret/a.mp4",
                tmp_path,
                limits,
                reach=Reach(),
                check=lambda: None,
                buckets=buckets,
            )
        assert caught.value.kind is ErrorKind.FORBIDDEN


def test_what_is_not_there_is_said(client, bucket, object_store, tmp_path, limits) -> None:
    missing = failure(f"s3://{bucket}/none.mp4", tmp_path, limits, object_store.endpoint, [(bucket, "")])
    assert (type(missing), missing.kind) == (PermanentError, ErrorKind.NOT_FOUND)
    assert "no such object" in missing.message
    nowhere = failure("s3://no-such-bucket/a.mp4", tmp_path, limits, object_store.endpoint, [("no-such-bucket", "")])
    assert nowhere.kind is ErrorKind.NOT_FOUND and "no such bucket" in nowhere.message
    client.put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    empty = failure(f"s3://{bucket}/empty.mp4", tmp_path, limits, object_store.endpoint, [(bucket, "")])
    assert (type(empty), empty.kind) == (PermanentError, ErrorKind.EMPTY)
    client.put_object(Bucket=bucket, Key="cold.mp4", Body=b"x", StorageClass="GLACIER")
    cold = failure(f"s3://{bucket}/cold.mp4", tmp_path, limits, object_store.endpoint, [(bucket, "")])
    assert (type(cold), cold.kind) == (PermanentError, ErrorKind.ARCHIVED)
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_what_is_too_large_is_refused_before_it_is_read(client, bucket, object_store, tmp_path, limits) -> None:
    client.put_object(Bucket=bucket, Key="a.mp4", Body=bytes(1001))
    url, small = f"s3://{bucket}/a.mp4", replace(limits, max_bytes=1000)
    error = failure(url, tmp_path, small, object_store.endpoint, [(bucket, "")])
    assert (type(error), error.kind) == (PermanentError, ErrorKind.TOO_LARGE)


class Script:
    """A store that gives the answers of a list, one a connection, and notes what was asked."""

    def __init__(self, *answers: bytes | None) -> None:
        self.asked: list[str] = []
        self._answers = iter(answers)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._held: list[socket.socket] = []
        self.endpoint = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return  # closed: nobody asks any more
            request = b""
            while b"\r\n\r\n" not in request and (received := connection.recv(65536)):
                request += received
            self.asked.append(request.decode())
            if answer is None:  # says nothing
                self._held.append(connection)
                continue
            with connection:
                connection.sendall(answer)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes who waits for the next connection
        self._thread.join()
        for connection in (self._server, *self._held):
            connection.close()


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def make(*answers: bytes | None) -> Script:
        made.append(Script(*answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def answer(content: bytes, *, of: int, status: str = "200 OK", etag: str = '"one"') -> bytes:
    """The head of an answer that announces `of` bytes, and as many as there are in `content`."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {of}\r\nETag: {etag}\r\n\r\n".encode() + content


@pytest.mark.parametrize(
    ("status", "code", "error", "kind"),
    [
        (403, "AccessDenied", PermanentError, ErrorKind.FORBIDDEN),
        (403, "AllAccessDisabled", PermanentError, ErrorKind.FORBIDDEN),
        (403, "InvalidObjectState", PermanentError, ErrorKind.ARCHIVED),
        (403, "SignatureDoesNotMatch", TransientError, ErrorKind.STORE_UNAVAILABLE),
        (403, "InvalidAccessKeyId", TransientError, ErrorKind.STORE_UNAVAILABLE),
        (403, "RequestTimeTooSkewed", TransientError, ErrorKind.STORE_UNAVAILABLE),
        (400, "ExpiredToken", TransientError, ErrorKind.STORE_UNAVAILABLE),
        (400, "InvalidRequest", PermanentError, ErrorKind.FORBIDDEN),
        (503, "SlowDown", TransientError, ErrorKind.THROTTLED),
        (500, "InternalError", TransientError, ErrorKind.SERVER_ERROR),
    ],
)
def test_each_refusal_has_its_kind(script, tmp_path, limits, status, code, error, kind) -> None:
    store = script(refusal(status, code))
    found = failure("s3://bucket/a.mp4", tmp_path, limits, store.endpoint, [("bucket", "")])
    assert (type(found), found.kind) == (error, kind)


def test_a_transfer_that_breaks_goes_on_where_it_ended_with_the_same_bytes_only(script, tmp_path, limits) -> None:
    store = script(
        answer(b"abcd", of=10),
        answer(b"ef", of=6, status="206 Partial Content"),
        answer(b"ghij", of=4, status="206 Partial Content"),
    )
    fetched = take("s3://bucket/a.mp4", tmp_path, limits, store.endpoint, [("bucket", "")])
    assert fetched.path.read_bytes() == b"abcdefghij"
    assert fetched.sha256 == hashlib.sha256(b"abcdefghij").hexdigest()
    assert "range:" not in store.asked[0].lower()
    for request, start in zip(store.asked[1:], (4, 6), strict=True):
        assert f"range: bytes={start}-" in request.lower() and 'if-match: "one"' in request.lower()


def test_an_object_that_was_changed_meanwhile_is_read_anew_later(script, tmp_path, limits) -> None:
    store = script(answer(b"abcd", of=10), refusal(412, "PreconditionFailed"))
    error = failure("s3://bucket/a.mp4", tmp_path, limits, store.endpoint, [("bucket", "")])
    assert (type(error), error.kind) == (TransientError, ErrorKind.CHANGED)


def test_a_store_that_breaks_off_every_time_is_tried_again_later(script, tmp_path, limits) -> None:
    store = script(*[answer(b"", of=10)] * 4)
    error = failure("s3://bucket/a.mp4", tmp_path, limits, store.endpoint, [("bucket", "")])
    assert (type(error), error.kind) == (TransientError, ErrorKind.UNREACHABLE)
    assert "the connection broke" in error.message


def test_more_than_was_announced_is_not_taken(script, tmp_path, limits) -> None:
    store = script(answer(b"a" * 2000, of=900))
    fetched = take("s3://bucket/a.mp4", tmp_path, replace(limits, max_bytes=1000), store.endpoint, [("bucket", "")])
    assert fetched.size_bytes == 900


def test_a_store_that_is_away_or_silent_is_tried_again_later(script, tmp_path, limits) -> None:
    away = failure("s3://bucket/a.mp4", tmp_path, limits, "http://127.0.0.1:9", [("bucket", "")])
    assert (type(away), away.kind) == (TransientError, ErrorKind.UNREACHABLE)
    assert "it cannot be reached" in away.message
    silent = failure(
        "s3://bucket/a.mp4", tmp_path, replace(limits, read_timeout_s=0.2), script(None).endpoint, [("bucket", "")]
    )
    assert (type(silent), silent.kind) == (TransientError, ErrorKind.UNREACHABLE)
    assert "it fell silent" in silent.message


def test_a_deadline_and_whoever_looks_end_a_transfer_that_stands_still(script, tmp_path, limits) -> None:
    store = script(None, None)
    patient = replace(limits, total_timeout_s=0.2)
    began_at = time.monotonic()
    error = failure("s3://bucket/a.mp4", tmp_path, patient, store.endpoint, [("bucket", "")])
    assert (type(error), error.kind) == (PermanentError, ErrorKind.DEADLINE)

    def cancelled() -> None:
        raise KeyError("cancelled")

    with pytest.raises(KeyError):
        take("s3://bucket/a.mp4", tmp_path, limits, store.endpoint, [("bucket", "")], check=cancelled)
    assert time.monotonic() - began_at < 2 * (2 + 1)
    assert list(tmp_path.iterdir()) == []


def test_keys_of_the_settings_are_the_only_ones(script, tmp_path, limits, monkeypatch) -> None:
    """No file and no variable of whoever started the worker says who we are or where the store is."""
    config = tmp_path / "config"
    config.write_text(
        "[default]\naws_access_key_id = FILE\naws_secret_access_key = FILE\nendpoint_url = http://x.invalid\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ENVIRONMENT")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://x.invalid")
    monkeypatch.setenv("HTTP_PROXY", "http://x.invalid:1")
    store = script(answer(b"abcd", of=4))
    work = tmp_path / "work"
    work.mkdir()
    assert take("s3://bucket/a.mp4", work, limits, store.endpoint, [("bucket", "")]).size_bytes == 4
    assert "Credential=test/" in store.asked[0]

"""What only a blob store in a bucket does: says why the store is away, goes on where it broke, gives addresses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
import requests

from shared.blob_stores import open_blobs
from shared.blobs import BlobMissing
from shared.errors import ErrorKind, TransientError
from shared.s3 import S3
from shared.s3_blobs import PART_BYTES, SMALL_AT_A_TIME
from shared.settings import Settings
from tests.faults.network import Link, Network
from tests.object_store import refusal

pytestmark = pytest.mark.integration


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@pytest.fixture
def link(network, object_store) -> Link:
    return network.link(lambda: object_store.port)


@pytest.fixture
def behind_a_link(object_store, link) -> Settings:
    """Settings that name a new bucket, reached through the link."""
    values = object_store.new_bucket() | {"s3_endpoint": f"http://127.0.0.1:{link.listens_at}"}
    return Settings(**values, own_models={})


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8 picture")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"".join(i.to_bytes(4, "big") * 1024 for i in range(PART_BYTES // 4096 + 1000)))
    return path


@pytest.mark.parametrize(
    ("mode", "answer", "reason"),
    [
        ("cut", b"", "it closed the connection"),
        ("silent", b"", "it does not answer in time"),
        ("answer", refusal(500, "InternalError"), "it answers 500 InternalError"),
        ("answer", refusal(503, "SlowDown"), r"it is asked too often \(SlowDown\)"),
        ("answer", refusal(403, "AccessDenied"), "access denied"),
        ("answer", b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\n<h1>", "it answers 502"),
    ],
)
def test_a_store_that_does_not_do_what_it_is_asked_is_a_transient_error(
    network, link, behind_a_link, picture, mode, answer, reason
):
    blobs = open_blobs(behind_a_link, patience_s=0.3)
    network.switch(link, mode, answer=answer)
    bucket = behind_a_link.blobs_bucket.rstrip("/")
    for what, use in {
        r"take pictures/1\.jpg": lambda: blobs.put("pictures/1.jpg", picture),
        r"give pictures/1\.jpg": lambda: blobs.read("pictures/1.jpg"),
        r"remove pictures/1\.jpg": lambda: blobs.delete(["pictures/1.jpg"]),
        "list its objects": lambda: list(blobs.entries("")),
    }.items():
        with pytest.raises(TransientError, match=f"bucket {bucket}, could not {what}: .*{reason}") as raised:
            use()
        assert raised.value.kind is ErrorKind.STORE_UNAVAILABLE
    network.switch(link, "pass")
    blobs.put("pictures/1.jpg", picture)
    assert blobs.read("pictures/1.jpg") == picture.read_bytes()


def test_one_that_may_not_be_removed_is_named(network, link, behind_a_link):
    said = b"<DeleteResult><Error><Key>a/1.jpg</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    network.switch(link, "answer", answer=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
    with pytest.raises(TransientError, match=r"could not remove a/1\.jpg: AccessDenied"):
        open_blobs(behind_a_link).delete(["a/1.jpg", "a/2.jpg"])


def test_what_is_no_blob_of_ours_has_no_name(object_store, picture):
    settings = Settings(**object_store.new_bucket("a/"))
    blobs = open_blobs(settings)
    blobs.put("pictures/1.jpg", picture)
    client = S3(settings).client
    for key in ("a/", "a/pictures/", "a/pictures/my holiday.jpg", "b/pictures/2.jpg"):
        client.put_object(Bucket=settings.blobs_bucket.split("/")[0], Key=key, Body=b"")
    assert [entry.name for entry in blobs.entries("")] == ["pictures/1.jpg"]


def test_a_bucket_that_is_not_there_is_no_missing_blob(object_store, picture):
    blobs = open_blobs(Settings(**object_store.settings("no-such-bucket")))
    for use in (lambda: blobs.read("pictures/1.jpg"), lambda: blobs.put("pictures/1.jpg", picture)):
        with pytest.raises(TransientError, match=r"bucket no-such-bucket, could not .*: there is no such bucket"):
            use()


def test_reading_goes_on_where_the_connection_broke(network, link, behind_a_link, large, tmp_path):
    blobs = open_blobs(behind_a_link)
    blobs.put("uploads/1", large)
    # Two breaks, and the rest.
    network.switch(link, "break", limit_bytes=large.stat().st_size * 2 // 5)
    with blobs.open_file("uploads/1", tmp_path) as path:
        assert path.read_bytes() == large.read_bytes()


def test_an_upload_that_broke_leaves_no_parts_behind(network, link, behind_a_link, large, object_store):
    blobs = open_blobs(behind_a_link, patience_s=1)
    network.switch(link, "break", limit_bytes=100_000)
    with pytest.raises(TransientError, match="could not take uploads/1"):
        blobs.put("uploads/1", large)
    network.switch(link, "pass")
    client = S3(behind_a_link).client
    assert "Uploads" not in client.list_multipart_uploads(Bucket=behind_a_link.blobs_bucket.rstrip("/"))
    with pytest.raises(BlobMissing):
        blobs.read("uploads/1")


def test_a_link_gives_a_browser_the_picture_and_lets_it_keep_it(object_store, picture):
    blobs = open_blobs(Settings(**object_store.new_bucket("a/")))
    blobs.put("pictures/1.jpg", picture)
    link = blobs.link("pictures/1.jpg", 60)
    assert link and link.startswith(f"{blobs.link_origin}/") and "X-Amz-Expires=60" in link
    with requests.Session() as session:
        session.trust_env = False
        answer = session.get(link, timeout=5)
    assert answer.content == picture.read_bytes()
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("settings", "origin"),
    [
        ({"s3_endpoint": "http://minio:9000"}, "http://minio:9000"),
        ({"s3_endpoint": "http://minio:9000", "s3_public_endpoint": "https://pictures.test"}, "https://pictures.test"),
        ({"s3_region": "eu-central-1"}, "https://my-bucket.s3.eu-central-1.amazonaws.com"),
    ],
)
def test_links_lead_to_where_browsers_reach_the_store(settings, origin):
    blobs = open_blobs(Settings(blobs_bucket="my-bucket/a", s3_access_key="a", s3_secret_key="b", **settings))
    assert blobs.link_origin == origin
    assert str(blobs.link("pictures/1.jpg", 60)).startswith(f"{origin}/")


def test_the_origin_of_links_needs_no_credentials():
    assert open_blobs(Settings(blobs_bucket="my-bucket", s3_endpoint="http://minio:9000")).link_origin


def test_threads_that_begin_together_share_one_client(object_store, tmp_path, monkeypatch):
    made = []
    make = boto3.session.Session.client

    def client(session: boto3.session.Session, *arguments: object, **named: object) -> object:
        made.append(arguments)
        return make(session, *arguments, **named)

    settings = Settings(**object_store.new_bucket())
    pictures = {f"pictures/{i}.jpg": tmp_path / f"{i}.jpg" for i in range(2 * SMALL_AT_A_TIME)}
    for path in pictures.values():
        path.write_bytes(path.name.encode())
    monkeypatch.setattr(boto3.session.Session, "client", client)
    open_blobs(settings).put_all(pictures)
    assert len(made) == 1
    assert list(open_blobs(settings).read_all(pictures)) == [path.read_bytes() for path in pictures.values()]
    assert len(made) == 2


def test_a_forked_process_opens_connections_of_its_own(object_store, monkeypatch):
    store = S3(Settings(**object_store.new_bucket()))
    before = store.client
    assert store.client is before
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert store.client is not before

"""The API with its blobs in a bucket: pictures are read from there, and a store that is away breaks nothing."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import requests
from sqlalchemy import text

from tests.faults.network import Network

pytestmark = pytest.mark.integration


@pytest.fixture
def link(object_store):
    """The API's way to the store."""
    with Network() as network:
        link = network.link(lambda: object_store.port)
        yield lambda mode: network.switch(link, mode), f"http://127.0.0.1:{link.listens_at}"


@pytest.fixture
def settings(settings, object_store, link):
    """The settings of the other tests, with a bucket. Browsers reach the store without the link."""
    places = object_store.new_bucket("reelmap/")
    return replace(
        settings,
        blobs_folder=None,
        **places | {"s3_endpoint": link[1], "s3_public_endpoint": places["s3_endpoint"]},
    )


@pytest.fixture
def key_frame(client, submit, workers):
    job_id = submit(1)["id"]
    workers.extract(job_id, key_frames_each=1)
    workers.embed(job_id)
    workers.cluster(job_id, n_clusters=1)
    [clustering] = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    return client.get(clustering["links"]["clusters"]).json["clusters"][0]["medoid"]


def fetched(address: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(address, timeout=5)


def test_a_picture_is_read_from_the_store_after_access_was_checked(client, key_frame, object_store, link):
    link[0]("cut")  # not needed to sign an address
    for address in (key_frame["image"], key_frame["small_image"]):
        answer = client.get(address)
        assert (answer.status_code, answer.data) == (302, b"")
        assert answer.location.startswith(f"{object_store.endpoint}/") and "X-Amz-Expires=3600" in answer.location
        assert answer.headers["Cache-Control"] == "private, max-age=540"
        picture = fetched(answer.location)
        assert picture.headers["Content-Type"] == "image/jpeg" and picture.content.startswith(b"\xff\xd8")


def test_no_browser_is_told_to_keep_an_address_that_expired(client, key_frame):
    answer = client.get(key_frame["image"], headers={"If-None-Match": "*"})
    assert answer.status_code == 302 and "ETag" not in answer.headers


def test_a_deleted_picture_is_led_to_no_more(client, key_frame):
    address = client.get(key_frame["image"]).location
    [job] = client.get("/api/v1/jobs").json["jobs"]
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    assert client.get(key_frame["image"]).status_code == 404
    assert fetched(address).status_code == 404


def test_pages_may_show_pictures_from_the_store_and_nothing_else(client, object_store):
    policy = client.get("/").headers["Content-Security-Policy"]
    assert f"img-src 'self' {object_store.endpoint};" in policy
    assert policy.count(object_store.endpoint) == 1
    assert object_store.endpoint not in client.get("/api/v1/docs").headers["Content-Security-Policy"]
    assert object_store.endpoint not in client.get("/api/v1/jobs").headers["Content-Security-Policy"]


def test_what_needs_the_store_is_refused_while_it_is_away_and_leaves_nothing(
    client, submit, workers, key_frame, jpeg, database, link, settings
):
    link[0]("cut")
    for answer in (
        client.post("/api/v1/uploads?file_name=a.mp4", data=b"moving", content_type="application/octet-stream"),
        client.post("/api/v1/search", data={"picture": (io.BytesIO(jpeg), "a.jpg")}),
    ):
        assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
        assert int(answer.headers["Retry-After"]) > 0
        assert settings.blobs_bucket.split("/")[0] in answer.json["detail"]
    with database.transaction() as connection:
        assert (
            connection.execute(text("SELECT (SELECT count(*) FROM uploads) + (SELECT count(*) FROM queries)")).scalar()
            == 0
        )
    link[0]("pass")
    assert client.post("/api/v1/uploads", data={"file": (io.BytesIO(b"moving"), "a.mp4")}).status_code == 201


def test_a_job_can_be_deleted_while_the_store_is_away(client, key_frame, link, service):
    [job] = client.get("/api/v1/jobs").json["jobs"]
    link[0]("cut")
    assert client.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    link[0]("pass")
    assert len(list(service.blobs.entries("pictures/"))) == 2, "orphans, which the dispatcher collects"


def test_the_file_of_an_export_is_read_from_the_store_under_its_name(client, key_frame, write):
    export = client.post("/api/v1/exports", json={"job_id": key_frame["sources"][0]["job_id"], "format": "zip"}).json
    write()
    answer = client.get(export["links"]["self"] + "/file")
    assert (answer.status_code, answer.data, answer.headers["Cache-Control"]) == (302, b"", "no-store")
    file = fetched(answer.location)
    assert file.headers["Content-Disposition"] == f'attachment; filename="reelmap-job-{export["id"]}.zip"'
    assert len(file.content) == client.get(export["links"]["self"]).json["size_bytes"]
    with requests.Session() as session:
        session.trust_env = False
        part = session.get(answer.location, headers={"Range": "bytes=10-"}, timeout=5)
    assert (part.status_code, part.content) == (206, file.content[10:])
    assert client.delete(export["links"]["self"]).status_code == 204
    assert not fetched(answer.location).ok

"""Forms with files: nothing is kept of one that is refused, and none takes more than its share."""

from __future__ import annotations

import io
import os
import resource

import pytest
from sqlalchemy import text

BROWSER = {"Accept": "text/html,*/*;q=0.8"}


def kept(service) -> list[str]:
    return [entry.name for entry in service.blobs.entries("")]


def send(client, address: str = "/jobs", **fields: object):
    files = [(io.BytesIO(b"film"), f"film {number}.mp4") for number in range(7)]
    return client.post(address, data={"files": files, "models": "hog_color", **fields}, headers=BROWSER)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"models": "no such model"}, "there is no model"),
        ({"videos": "ftp://example.org/a.mp4"}, "ftp://example.org/a.mp4"),
        ({"videos": "upload:00000000-0000-0000-0000-000000000009"}, "there is no upload"),
        ({"n_clusters": "many"}, "Clusters (k) is &#39;many&#39;"),
        ({"name": "x" * 1000}, "at most 200 characters"),
        ({"files": [(io.BytesIO(b"film"), "a.mp4"), (io.BytesIO(b""), "nothing.mp4")]}, "nothing.mp4"),
        ({"files": [(io.BytesIO(b"film"), "a.mp4"), (io.BytesIO(b"\0" * 100_001), "b.mp4")]}, "larger than 100000"),
    ],
)
def test_a_refused_form_of_a_new_job_leaves_no_file_behind(client, service, database, fields, said):
    answer = send(client, **fields)
    assert answer.status_code in (413, 422)
    assert said in answer.text
    assert kept(service) == []
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM uploads")).scalar() == 0


def test_a_refused_form_of_further_videos_leaves_no_file_behind(client, service, submit):
    job_id = submit(1)["id"]
    assert send(client, f"/jobs/{job_id}/sources", videos="nonsense").status_code == 422
    assert send(client, f"/jobs/{job_id[:-4]}0000/sources").status_code == 404
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    answer = send(client, f"/jobs/{job_id}/sources")
    assert answer.status_code == 409
    assert "is cancelled" in answer.text
    assert kept(service) == []


def test_an_accepted_form_keeps_each_file_once_under_its_name(client, service):
    answer = send(client, videos="https://example.org/a.mp4")
    assert answer.status_code == 303
    assert len(kept(service)) == 7
    page = client.get(answer.location, headers=BROWSER).text
    assert "https://example.org/a.mp4" in page
    assert "film 6.mp4" in page
    assert send(client, f"{answer.location}/sources").status_code == 303
    assert len(kept(service)) == 14


@pytest.mark.parametrize("address", ["/jobs", "/api/v1/uploads"])
def test_what_was_stored_goes_when_its_rows_cannot_be_written(client, service, database, address):
    with database.transaction() as connection:
        connection.execute(
            text(
                """CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION USING ERRCODE = '55P03'; END $$;
                CREATE TRIGGER busy BEFORE INSERT ON uploads FOR EACH STATEMENT EXECUTE FUNCTION busy()"""
            )
        )
    answer = send(client, address, file=(io.BytesIO(b"film"), "a.mp4"))
    assert answer.status_code == 503
    assert kept(service) == []


def test_where_nobody_knows_whether_the_rows_are_there_the_bytes_stay(client, service, database):
    with database.transaction() as connection:
        connection.execute(
            text(
                """
                CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
                CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON uploads DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION cut()"""
            )
        )
    assert client.post("/api/v1/uploads", data=b"1", content_type="application/octet-stream").status_code == 503
    assert len(kept(service)) == 1


def test_a_server_that_may_open_no_more_files_says_so(client, service):
    client.get("/api/v1/jobs")  # its connections are there
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    holes = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest + 1 - len(os.listdir("/proc/self/fd")))]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max([highest, *holes]) + 1, hard))
    try:
        answer = client.post("/api/v1/uploads", data=b"1", content_type="application/octet-stream")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for hole in holes:
            os.close(hole)
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert "as many files and connections open as it may" in answer.json["detail"]
    assert kept(service) == []


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(client):
    for body in (b'{"videos":[' + b"1," * 60_000 + b"1]}", b"[" * 60_000, b'{"videos":[' + b"{}," * 60_000 + b"1]}"):
        answer = client.post("/api/v1/jobs", data=body, content_type="application/json")
        assert (answer.status_code, answer.json["title"]) == (413, "The request is larger than allowed")
    many = client.post(
        "/api/v1/jobs",
        json={"videos": [f"https://example.org/{n}?a=1,2,3" for n in range(10_000)], "models": ["hog_color"]},
    )
    assert many.status_code == 202

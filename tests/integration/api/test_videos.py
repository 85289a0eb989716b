"""Key frames by time: of a job and of a video, over HTTP, on a real Postgres."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest
from sqlalchemy import text

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def pages_of(client, address: str, limit: int, **query: str) -> list[dict]:
    """Every key frame of a list, page by page."""
    seen: list[dict] = []
    cursor = None
    while True:
        given = urlencode({"limit": limit, **query, **({"cursor": cursor} if cursor else {})})
        page = client.get(f"{address}{'&' if '?' in address else '?'}{given}")
        assert page.status_code == 200, page.json
        assert len(page.json["key_frames"]) <= limit
        seen += page.json["key_frames"]
        cursor = page.json["next_cursor"]
        if cursor is None:
            return seen


@pytest.fixture
def job(client, submit, workers) -> dict:
    """A job of 3 videos with 3 key frames each."""
    job_id = submit(3)["id"]
    workers.finish(job_id)
    return client.get(f"/api/v1/jobs/{job_id}").json


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 100])
def test_a_jobs_key_frames_come_video_by_video_and_by_time(client, job, limit):
    seen = pages_of(client, job["links"]["key_frames"], limit)
    where = [(frame["sources"][0]["url"][-5:], frame["time_s"]) for frame in seen]
    assert where == [(f"{video}.mp4", second) for video in (0, 1, 2) for second in (0.0, 1.0, 2.0)]
    assert len({frame["id"] for frame in seen}) == 9


def test_a_video_that_a_job_names_twice_is_listed_once(client, submit, workers):
    job_id = submit(2)["id"]
    workers.extract(job_id, same_video=True)
    seen = pages_of(client, f"/api/v1/jobs/{job_id}/key-frames", 2)
    assert [frame["time_s"] for frame in seen] == [0.0, 1.0, 2.0]
    assert len(seen[0]["sources"]) == 2


def test_sources_lead_to_their_video_and_its_key_frames(client, job):
    for source in client.get(job["links"]["sources"]).json["sources"]:
        seen = pages_of(client, source["links"]["key_frames"], 2)
        assert [frame["time_s"] for frame in seen] == [0.0, 1.0, 2.0]
        assert {frame["video_id"] for frame in seen} == {source["video"]["id"]}
        video = client.get(source["links"]["video"]).json
        assert source["video"].items() <= video.items()
        assert (video["key_frames"], video["reduction"]) == (3, 0.97)
        assert [each["url"] for each in video["sources"]] == [source["url"]]


def test_a_source_that_was_not_read_leads_nowhere(client, submit):
    job_id = submit(1)["id"]
    [source] = client.get(f"/api/v1/jobs/{job_id}/sources").json["sources"]
    assert source["links"] == {}
    assert client.get(f"/api/v1/jobs/{job_id}/key-frames").json == {"key_frames": [], "next_cursor": None}


def test_jobs_that_chose_otherwise_list_what_they_chose(client, submit, workers, database):
    """The same video under two recipes; without a job, what was chosen last."""
    first = submit(1)["id"]
    workers.extract(first, same_video=True)
    with database.transaction() as connection:
        connection.execute(text("UPDATE videos SET sha256 = 'other'"))  # so that it is read again
    second = submit(1)["id"]
    workers.extract(second, same_video=True, key_frames_each=5)
    with database.transaction() as connection:
        connection.execute(
            text(
                """UPDATE extractions SET recipe = 'another', video_id = (SELECT id FROM videos WHERE sha256 = 'other')
                WHERE key_frame_count = 5"""
            )
        )
        video_id = connection.execute(text("SELECT id FROM videos WHERE sha256 = 'other'")).scalar_one()
        connection.execute(text("UPDATE sources SET video_id = :id"), {"id": video_id})
    address = f"/api/v1/videos/{video_id}/key-frames"
    assert len(pages_of(client, address, 2, job=first)) == 3
    assert len(pages_of(client, address, 2, job=second)) == 5
    assert len(pages_of(client, address, 2)) == 5


@pytest.mark.parametrize("what", ["", "/key-frames"])
def test_what_a_project_or_a_job_does_not_have_is_not_found(client, job, submit, database, what):
    video_id = client.get(job["links"]["key_frames"]).json["key_frames"][0]["video_id"]
    other_job = submit(["https://example.org/other.mp4"])["id"]
    address = f"/api/v1/videos/{video_id}{what}"
    assert client.get(address).status_code == 200
    assert client.get(address, query_string={"job": other_job}).status_code == 404
    assert client.get(f"/api/v1/videos/{UNKNOWN}{what}").status_code == 404
    assert client.get(address, query_string={"job": "nonsense"}).status_code == 422
    with database.transaction() as connection:
        project_id = connection.execute(text("INSERT INTO projects (name) VALUES ('other') RETURNING id")).scalar()
        for table in ("jobs", "videos"):
            connection.execute(text(f"UPDATE {table} SET project_id = :project"), {"project": project_id})
    for gone in (address, job["links"]["key_frames"]):
        assert client.get(gone).status_code == 404


def test_a_cursor_of_one_list_is_none_of_the_other(client, job):
    of_job = client.get(job["links"]["key_frames"], query_string={"limit": 1}).json["next_cursor"]
    video_id = client.get(job["links"]["key_frames"]).json["key_frames"][0]["video_id"]
    assert client.get(f"/api/v1/videos/{video_id}/key-frames", query_string={"cursor": of_job}).status_code == 422
    assert client.get(job["links"]["key_frames"], query_string={"cursor": "nonsense"}).status_code == 422

"""Addresses of buckets at the API's door: those that are opened are taken, the others refused, and never listed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.api.app import create_app

OPENED = "s3://shared/videos/my film.mp4"


@pytest.fixture
def client(settings):
    app = create_app(replace(settings, s3_sources="shared/videos, archive"))
    yield app.test_client()
    app.extensions["reelmap"].database.dispose()


def submit(client, *urls: str):
    return client.post("/api/v1/jobs", json={"videos": list(urls), "models": ["hog_color"]})


def test_an_opened_address_is_a_source_with_its_bucket_for_the_limit_per_host(client, rows):
    answer = submit(client, OPENED, "s3://archive/a%20b.mp4")
    assert answer.status_code == 202
    assert rows.all("SELECT url, host FROM sources ORDER BY position") == [
        (OPENED, "s3://shared"),
        ("s3://archive/a%20b.mp4", "s3://archive"),
    ]
    job = answer.headers["Location"]
    page = client.get(job.removeprefix("/api/v1")).text
    assert "my film.mp4" in page and 'href="s3:' not in page
    assert client.post(f"{job}/sources", json={"videos": ["s3://archive/b.mp4"]}).status_code == 202


@pytest.mark.parametrize("url", ["s3://shared/videos-secret/a.mp4", "s3://shared/a.mp4", "s3://other/videos/a.mp4"])
def test_any_other_is_refused_at_every_door_and_nobody_learns_what_is_opened(client, url):
    answer = submit(client, OPENED, url)
    assert answer.status_code == 422
    [error] = answer.json["errors"]
    assert error["field"] == "videos.1"
    assert (
        "Ask who runs it" in error["message"] and "shared/videos," not in answer.text and "archive" not in answer.text
    )
    job = submit(client, OPENED).headers["Location"]
    assert client.post(f"{job}/sources", json={"videos": [url]}).status_code == 422

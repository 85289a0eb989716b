"""The whole of Reelmap with its pictures in a bucket, and videos out of another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from shared.s3 import S3
from shared.settings import Settings
from tests.e2e.conftest import Running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def archive(object_store, clips: Path) -> str:
    """A bucket of somebody's with two clips in it."""
    settings = object_store.new_bucket()
    bucket = settings["blobs_bucket"].rstrip("/")
    client = S3(Settings(**settings)).client
    for name in ("first", "second"):
        client.upload_file(str(clips / f"{name}.mp4"), bucket, f"films/{name} of all.mp4")
    client.upload_file(str(clips / "third.mp4"), bucket, "private/third.mp4")
    return str(bucket)


@pytest.fixture(scope="module")
def reelmap(tmp_path_factory, environ, object_store, archive) -> Iterator[Running]:
    store = {f"REELMAP_{name.upper()}": str(value) for name, value in object_store.new_bucket("ours/").items()}
    running = Running(
        tmp_path_factory.mktemp("up") / "reelmap", {**environ, **store, "REELMAP_S3_SOURCES": f"{archive}/films"}
    )
    running.start()
    yield running
    running.stop()


def doctor(reelmap: Running) -> list[dict[str, str]]:
    """What `reelmap doctor --thorough` finds."""
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", "doctor", "--thorough", "--folder", str(reelmap.folder), "--json"],
        env={**os.environ, **reelmap.environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout, done.stderr
    findings: list[dict[str, str]] = json.loads(done.stdout)["findings"]
    return findings


def test_videos_of_an_open_bucket_become_clusters_whose_pictures_are_in_another(reelmap, archive):
    urls = [f"s3://{archive}/films/{name} of all.mp4" for name in ("first", "second")]
    job = reelmap.post("/jobs", {"videos": urls, "models": ["hog_color"], "clustering": {"n_clusters": 3}})
    job = reelmap.wait(job["id"])
    assert job["state"] == "succeeded", job
    sources = reelmap.get(f"/jobs/{job['id']}/sources")["sources"]
    assert [(source["url"], source["state"], source["key_frames"]) for source in sources] == [
        (url, "succeeded", 3) for url in urls
    ]
    [clustering] = reelmap.get(f"/jobs/{job['id']}/clusterings")["clusterings"]
    [cluster, *_] = reelmap.get(f"/clusterings/{clustering['id']}/clusters")["clusters"]
    picture = reelmap.base + cluster["medoid"]["image"]
    led = requests.get(picture, allow_redirects=False, timeout=10)
    assert led.status_code == 302, "the API does not carry the bytes"
    followed = requests.get(led.headers["Location"], timeout=10)
    assert (followed.status_code, followed.headers["Content-Type"]) == (200, "image/jpeg")
    assert followed.content.startswith(b"\xff\xd8")
    assert not (reelmap.folder / "blobs").exists() or not any((reelmap.folder / "blobs").iterdir())


@pytest.mark.parametrize("key", ["private/third.mp4", "films-of-others/x.mp4", "films/../private/third.mp4"])
def test_what_is_not_open_is_refused_at_the_door(reelmap, archive, key):
    answer = reelmap.call("POST", "/jobs", json={"videos": [f"s3://{archive}/{key}"], "models": ["hog_color"]})
    assert answer.status_code == 422, answer.text
    assert "films" not in answer.json()["detail"].replace(key, "")


def test_a_key_that_is_not_there_fails_alone_with_a_sentence(reelmap, archive):
    urls = [f"s3://{archive}/films/none.mp4", f"s3://{archive}/films/first of all.mp4"]
    job = reelmap.post("/jobs", {"videos": urls, "models": ["hog_color"]})
    job = reelmap.wait(job["id"])
    assert job["state"] == "partly_failed"
    [missing, _] = reelmap.get(f"/jobs/{job['id']}/sources")["sources"]
    assert missing["error"]["kind"] == "not_found", missing
    assert missing["attempts"] == 1


def test_rows_and_bucket_agree_while_it_runs(reelmap):
    findings = {finding["check"]: finding for finding in doctor(reelmap)}
    for check in ("store", "pictures", "every blob", "orphans"):
        assert findings[check]["verdict"] == "good", findings[check]

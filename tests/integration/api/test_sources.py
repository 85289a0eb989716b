"""Correcting and removing sources, and what stays of a job then."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from shared import tasks
from shared.errors import ErrorKind, TransientError

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def job_of(client):
    return lambda job_id: client.get(f"/api/v1/jobs/{job_id}").json


@pytest.fixture
def sources_of(client):
    return lambda job_id: client.get(f"/api/v1/jobs/{job_id}/sources").json["sources"]


@pytest.fixture
def clusterings_of(client):
    return lambda job_id: client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]


def count(workers, table: str) -> int:
    with workers.service.database.transaction() as connection:
        return connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


def test_without_the_source_that_failed_a_job_has_succeeded(client, submit, workers, job_of, sources_of):
    job_id = submit(3)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone")
    workers.finish(job_id)
    assert job_of(job_id)["state"] == "partly_failed"
    clusterings = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    [failed] = [source for source in sources_of(job_id) if source["state"] == "failed"]
    assert client.delete(f"/api/v1/jobs/{job_id}/sources/{failed['id']}").status_code == 204
    job = job_of(job_id)
    assert (job["state"], job["sources"], job["failures"]) == ("succeeded", 2, [])
    kept = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    assert [each["id"] for each in kept] == [each["id"] for each in clusterings], "its content is the same"


def test_every_source_that_failed_can_be_removed_at_once(client, submit, workers, job_of):
    job_id = submit(4)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone", limit=2)
    workers.finish(job_id)
    assert client.delete(f"/api/v1/jobs/{job_id}/sources").status_code == 422
    assert client.delete(f"/api/v1/jobs/{job_id}/sources?state=failed").json == {"removed": 2}
    assert client.delete(f"/api/v1/jobs/{job_id}/sources?state=failed").json == {"removed": 0}
    assert (job_of(job_id)["state"], job_of(job_id)["sources"]) == ("succeeded", 2)


def test_what_a_removed_source_brought_leaves_the_job_and_the_store(
    client, submit, workers, job_of, sources_of, clusterings_of
):
    job_id = submit(3)["id"]
    workers.finish(job_id)
    client.post(f"/api/v1/jobs/{job_id}/clusterings", json={"n_clusters": 2, "seed": 5})
    workers.cluster(job_id)
    [asked] = [each for each in clusterings_of(job_id) if each["asked"]]
    [made] = [each for each in clusterings_of(job_id) if not each["asked"]]
    [first, *_] = sources_of(job_id)
    assert client.delete(f"/api/v1/jobs/{job_id}/sources/{first['id']}").status_code == 204

    assert (job_of(job_id)["state"], job_of(job_id)["key_frames_count"]) == ("running", 6)
    assert (count(workers, "videos"), count(workers, "key_frames"), count(workers, "embeddings")) == (2, 6, 6)
    assert len(list(workers.service.blobs.entries("pictures/"))) == 12
    workers.cluster(job_id)
    assert job_of(job_id)["state"] == "succeeded"
    [again] = [each for each in clusterings_of(job_id) if each["asked"]]
    [remade] = [each for each in clusterings_of(job_id) if not each["asked"]]
    assert (again["id"], again["key_frames"], again["settings"]["seed"]) == (asked["id"], 6, 5)
    assert remade["id"] != made["id"]
    assert (remade["key_frames"], remade["round"]) == (6, 2)


def test_what_another_job_uses_too_stays(client, submit, workers, sources_of):
    first, second = submit(2)["id"], submit(1)["id"]
    workers.extract(second, same_video=True)
    workers.extract(first, same_video=True)
    assert count(workers, "videos") == 1
    removed, kept = sources_of(first)
    client.delete(f"/api/v1/jobs/{first}/sources/{removed['id']}")
    assert (count(workers, "videos"), count(workers, "key_frames")) == (1, 3)
    assert [source["id"] for source in sources_of(first)] == [kept["id"]]


def test_a_worker_whose_source_was_removed_saves_nothing(client, submit, workers, sources_of):
    job_id = submit(2)["id"]
    with workers.service.database.transaction() as connection:
        claims = workers.claim(connection, "t.job_id = :job", job=job_id)
    client.delete(f"/api/v1/jobs/{job_id}/sources/{claims[0].source_id}")
    with workers.service.database.transaction() as connection:
        assert not tasks.succeed(connection, claims[0])
        assert tasks.succeed(connection, claims[1])


def test_the_last_source_stays(client, submit, workers, sources_of):
    job_id = submit(1)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone")
    [only] = sources_of(job_id)
    for address in (f"/{only['id']}", "?state=failed"):
        answer = client.delete(f"/api/v1/jobs/{job_id}/sources{address}")
        assert answer.status_code == 409
        assert "at least one source" in answer.json["detail"]
    assert len(sources_of(job_id)) == 1


def test_a_corrected_source_is_read_anew_in_its_place(client, submit, workers, job_of, sources_of):
    job_id = submit(3)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone")
    workers.finish(job_id)
    [failed] = [source for source in sources_of(job_id) if source["state"] == "failed"]
    answer = client.patch(
        f"/api/v1/jobs/{job_id}/sources/{failed['id']}", json={"url": " https://example.org/right.mp4#t=1 "}
    )
    assert (answer.status_code, answer.json["state"]) == (202, "running")
    corrected = sources_of(job_id)[failed["position"]]
    assert (corrected["id"], corrected["url"]) == (failed["id"], "https://example.org/right.mp4")
    assert (corrected["state"], corrected["error"], corrected["attempts"]) == ("queued", None, 0)
    workers.finish(job_id)
    assert (job_of(job_id)["state"], job_of(job_id)["videos"]) == ("succeeded", 3)


@pytest.mark.parametrize("url", ["", "ftp://example.org/a", "https://example.org/1.mp4", "upload:nothing", "x" * 5000])
def test_a_correction_that_is_none_changes_nothing(url, client, submit, sources_of):
    job_id = submit(["https://example.org/0.mp4", "https://example.org/1.mp4"])["id"]
    before = sources_of(job_id)
    answer = client.patch(f"/api/v1/jobs/{job_id}/sources/{before[0]['id']}", json={"url": url})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json["errors"]] == ["url"]
    assert sources_of(job_id) == before


def test_a_source_of_another_job_is_not_there(client, submit, sources_of):
    first, second = submit(2)["id"], submit(2)["id"]
    [other, _] = sources_of(second)
    for source_id in (other["id"], UNKNOWN):
        address = f"/api/v1/jobs/{first}/sources/{source_id}"
        assert client.delete(address).status_code == 404
        assert client.patch(address, json={"url": "https://example.org/c.mp4"}).status_code == 404
    assert client.delete(f"/api/v1/jobs/{UNKNOWN}/sources/{other['id']}").status_code == 404


def test_a_cancelled_job_loses_sources_and_stays_cancelled(client, submit, job_of, sources_of):
    job_id = submit(2)["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    [first, _] = sources_of(job_id)
    assert client.delete(f"/api/v1/jobs/{job_id}/sources/{first['id']}").status_code == 204
    assert (job_of(job_id)["state"], job_of(job_id)["sources"]) == ("cancelled", 1)
    [left] = sources_of(job_id)
    answer = client.patch(f"/api/v1/jobs/{job_id}/sources/{left['id']}", json={"url": "https://example.org/c.mp4"})
    assert answer.status_code == 409


def test_lists_are_expanded_only_where_that_is_asked_for(client, submit, workers):
    def levels(job_id):
        with workers.service.database.transaction() as connection:
            return connection.execute(
                text("SELECT list_levels FROM sources WHERE job_id = :job ORDER BY position"), {"job": job_id}
            ).scalars().all()  # fmt: skip

    job_id = submit(1)["id"]
    urls = ["https://example.org/list"]
    client.post(f"/api/v1/jobs/{job_id}/sources", json={"videos": urls, "expand": True})
    assert levels(job_id) == [0, 2]
    answer = client.post("/api/v1/jobs", json={"videos": urls, "models": ["hog_color"], "expand": True})
    assert levels(answer.json["id"]) == [2]
    answer = client.post("/api/v1/jobs", json={"videos": urls, "models": ["hog_color"], "expand": 1})
    assert answer.status_code == 422


def test_to_try_again_is_recommended_only_where_it_may_help(client, submit, workers, job_of):
    job_id = submit(2)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone")
    workers.finish(job_id)
    assert job_of(job_id)["retry_may_help"] is False
    assert [(f["stage"], f["kind"], f["tasks"]) for f in job_of(job_id)["failures"]] == [("keyframes", "not_found", 1)]
    page = client.get(f"/jobs/{job_id}").text
    assert 'class="button compact" id="retry"' in page
    other = submit(3)["id"]
    workers.fail(other, ErrorKind.UNREACHABLE, "a.example does not answer", limit=2)
    workers.finish(other)
    assert job_of(other)["retry_may_help"] is True
    assert [(f["kind"], f["tasks"]) for f in job_of(other)["failures"]] == [("unreachable", 2)]
    assert 'class="button compact main" id="retry"' in client.get(f"/jobs/{other}").text
    cancelled = submit(1)["id"]
    client.post(f"/api/v1/jobs/{cancelled}/cancel")
    assert job_of(cancelled)["retry_may_help"] is True


def test_the_page_corrects_and_removes(client, submit, workers, sources_of, job_of):
    job_id = submit(4)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "gone", limit=3)
    workers.finish(job_id)
    page = client.get(f"/jobs/{job_id}").text
    failed = [source["id"] for source in sources_of(job_id) if source["state"] == "failed"]
    assert all(f'action="/jobs/{job_id}/sources/{id_}/correct"' in page for id_ in failed)
    address = f"/jobs/{job_id}/sources"
    assert client.post(f"{address}/{failed[0]}/correct", data={"url": "nonsense"}).status_code == 422
    assert client.post(f"{address}/{failed[0]}/correct", data={"url": "https://example.org/z.mp4"}).status_code == 303
    assert client.post(f"{address}/{failed[1]}/remove").status_code == 303
    assert client.post(f"{address}/remove-failed").status_code == 303
    assert sorted(source["state"] for source in sources_of(job_id)) == ["queued", "succeeded"]


def test_a_source_shows_every_attempt_at_it(client, submit, workers, sources_of):
    job_id = submit(1)["id"]
    with workers.service.database.transaction() as connection:
        [task_id] = connection.execute(text("SELECT id FROM tasks")).scalars()
        [claim] = tasks.claim(connection, [task_id], owner="worker-1:7", lease_s=60)
    [running] = sources_of(job_id)[0]["history"]
    assert (running["attempt"], running["owner"], running["outcome"]) == (1, "worker-1:7", None)
    assert running["started_at"] and not running["ended_at"]
    with workers.service.database.transaction() as connection:
        assert tasks.try_later(connection, claim, TransientError(ErrorKind.UNREACHABLE, "<b>nobody</b>"), backoff_s=0)
        connection.execute(text("UPDATE tasks SET run_at = now()"))
        [claim] = tasks.claim(connection, [task_id], owner="worker-2:7", lease_s=60)
        assert tasks.fail(connection, claim, ErrorKind.NOT_A_VIDEO, "a picture")
        tasks.advance(connection, job_id)
    history = sources_of(job_id)[0]["history"]
    assert [(each["attempt"], each["owner"], each["outcome"], each["error"]["kind"]) for each in history] == [
        (1, "worker-1:7", "put_off", "unreachable"),
        (2, "worker-2:7", "failed", "not_a_video"),
    ]
    page = client.get(f"/jobs/{job_id}").text
    assert "2 attempts" in page and "put off" in page and "by worker-1:7" in page
    assert "&lt;b&gt;nobody&lt;/b&gt;" in page and "<b>nobody" not in page

"""Submitting and watching jobs over HTTP, on a real Postgres."""

from __future__ import annotations

import re
import threading
import time

import pytest
from sqlalchemy import text

from shared import tasks
from shared.errors import ErrorKind

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def fields(answer) -> list[str]:
    assert answer.content_type == "application/problem+json"
    return [error["field"] for error in answer.json["errors"]]


def test_a_submitted_job_is_accepted_with_its_address_and_every_default_written_out(client, submit):
    answer = client.post(
        "/api/v1/jobs",
        json={
            "videos": ["https://example.org/a.mp4", "https://example.org/b.mp4"],
            "name": "two clips",
            "models": ["hog_color"],
            "clustering": {"n_clusters": 7},
            "key_frames": {"strategy": "uniform"},
        },
    )
    job = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['id']}" == job["links"]["self"]
    assert answer.headers["Retry-After"] == "2"
    assert (job["name"], job["state"], job["round"], job["models"]) == ("two clips", "queued", 1, ["hog_color"])
    assert job["clustering"]["algorithm"] == "kmeans"
    assert job["clustering"]["n_clusters"] == 7
    assert job["clustering"]["seed"] == 0
    assert job["key_frames"]["strategy"] == "uniform"
    assert job["progress"]["keyframes"] == {
        "queued": 2, "running": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "total": 2,
    }  # fmt: skip
    assert (job["sources"], job["videos"], job["frames"], job["reduction"], job["eta_s"]) == (2, 0, 0, None, None)
    assert job["repeated_urls"] == []
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", job["created_at"])
    assert client.get(answer.headers["Location"]).json == {k: v for k, v in job.items() if k != "repeated_urls"}


def test_repeated_urls_become_one_source_and_the_answer_lists_them(client, submit):
    job = submit(["https://example.org/a", "https://EXAMPLE.org:443/a#t=3", "https://example.org/b"])
    assert job["repeated_urls"] == ["https://example.org/a"]
    assert job["sources"] == 2
    listed = client.get(job["links"]["sources"]).json["sources"]
    assert [(s["position"], s["url"], s["state"]) for s in listed] == [
        (0, "https://example.org/a", "queued"),
        (1, "https://example.org/b", "queued"),
    ]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, ["videos"]),
        ({"videos": []}, ["videos"]),
        ({"videos": "https://example.org/a"}, ["videos"]),
        ({"videos": ["https://e.org/1", "ftp://e.org/2", "x", 4]}, ["videos.3"]),
        ({"videos": ["https://e.org/1", "ftp://e.org/2", "not a url"]}, ["videos.1", "videos.2"]),
        ({"videos": ["upload:00000000-0000-4000-8000-000000000000", "upload:x"]}, ["videos.0", "videos.1"]),
        ({"models": ["hog_color", "resnet9000"]}, ["models.1"]),
        # The addresses first, also where the default models' weights are missing.
        ({"videos": ["not a url"], "models": None}, ["videos.0"]),
        ({"models": []}, ["models"]),
        ({"clustering": {"algorithm": "magic"}}, ["clustering.algorithm"]),
        ({"clustering": {"n_clusters": 0}}, ["clustering.n_clusters"]),
        ({"clustering": {"n_clusters": -3}}, ["clustering.n_clusters"]),
        ({"clustering": {"k": 3}}, ["clustering.k"]),
        ({"clustering": {"scaling": "none?"}}, ["clustering.scaling"]),
        ({"clustering": []}, ["clustering"]),
        ({"key_frames": {"strategy": "all"}}, ["key_frames.strategy"]),
        ({"key_frames": {"strategy": "uniform", "every_s": "soon"}}, ["key_frames.every_s"]),
        ({"name": "x" * 201}, ["name"]),
        ({"colour": "red"}, ["colour"]),
    ],
)
def test_a_value_that_cannot_be_used_is_named_by_its_field(standing_client, standing_job_id, body, named):
    given = {"videos": ["https://example.org/a"], "models": ["hog_color"], **body}
    if not body:
        del given["videos"]
    answer = standing_client.post("/api/v1/jobs", json=given)
    assert answer.status_code == 422
    assert fields(answer) == named
    assert named[0] in answer.json["detail"]
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert [job["id"] for job in standing_client.get("/api/v1/jobs").json["jobs"]] == [standing_job_id]


def test_a_name_that_is_too_long_is_told_how_long_it_may_be(standing_client):
    answer = standing_client.post("/api/v1/jobs", json={"videos": ["https://example.org/a"], "name": "x" * 201})
    assert answer.json["detail"] == "name: it may have at most 200 characters"


def test_a_name_is_cleaned_and_what_is_empty_then_is_no_name(submit):
    assert submit(1, name=" \x1b[31mred\0 \u202e\r\nlist ")["name"] == "[31mred list"
    assert submit(1, name="   ")["name"] == submit(1, name="\ud800\u200b")["name"] == ""


@pytest.mark.parametrize("body", ['{"videos": [', "", "[" * 40_000], ids=["cut off", "empty", "nested"])
def test_a_body_that_is_not_json_is_named(standing_client, body):
    answer = standing_client.post("/api/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, fields(answer)) == (400, ["body"])


def set_models(database, values: str, *names: str) -> None:
    with database.transaction() as connection:
        connection.execute(text(f"UPDATE models SET {values} WHERE name = ANY(:names)"), {"names": list(names)})


def test_models_left_out_are_those_of_the_blog_post_or_what_stands_in_for_them(client, database):
    def taken():
        answer = client.post("/api/v1/jobs", json={"videos": ["https://example.org/a"]})
        return answer.json["models"]

    assert taken() == ["efficientnet_lite0"]
    set_models(database, "missing = NULL", "vit_mae_base")
    assert taken() == ["efficientnet_lite0", "vit_mae_base"]
    set_models(database, "missing = NULL", "efficientnet_b0")
    assert taken() == ["efficientnet_b0", "vit_mae_base"]


def test_while_no_worker_has_looked_they_are_those_of_the_blog_post(client, database):
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM models"))
    answer = client.post("/api/v1/jobs", json={"videos": ["https://example.org/a"]})
    assert answer.json["models"] == ["efficientnet_b0", "vit_mae_base"]


def test_where_none_of_them_loads_it_is_said_once_with_the_reasons_and_what_else_there_is(client, database):
    set_models(database, "missing = 'no package', looked_at = now()", "efficientnet_lite0")
    answer = client.post("/api/v1/jobs", json={"videos": ["https://example.org/a"]})
    assert (answer.status_code, fields(answer)) == (422, ["models"])
    [error] = answer.json["errors"]
    assert error["message"].startswith(
        "no model that a job takes by default can be loaded here; name others: hog_color, tiny. "
    )
    assert "weights of efficientnet_b0 are missing" in error["message"]
    assert "weights of vit_mae_base are missing" in error["message"]


def test_what_a_worker_did_not_find_is_believed_for_ten_minutes(client, database):
    body = {"videos": ["https://example.org/a"], "models": ["vit_mae_base"]}
    answer = client.post("/api/v1/jobs", json=body)
    assert (answer.status_code, fields(answer)) == (422, ["models.0"])
    assert "weights of vit_mae_base are missing" in answer.json["detail"]
    set_models(database, "looked_at = now() - interval '11 minutes'", "vit_mae_base")
    assert client.post("/api/v1/jobs", json=body).status_code == 202


def test_a_model_that_a_worker_could_not_load_is_refused_for_ten_minutes(client, database, submit):
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE models SET problem = 'it is broken', problem_at = now() WHERE name = 'hog_color'")
        )
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    answer = client.post("/api/v1/jobs", json=body)
    assert (answer.status_code, answer.json["errors"]) == (422, [{"field": "models.0", "message": "it is broken"}])
    with database.transaction() as connection:
        connection.execute(text("UPDATE models SET problem_at = now() - interval '11 minutes'"))
    assert client.post("/api/v1/jobs", json=body).status_code == 202


def test_ten_thousand_urls_are_accepted_in_about_a_second_and_more_are_not(client, database):
    urls = [f"https://example.org/a-rather-long-folder-name/{i}.mp4" for i in range(10_001)]
    answer = client.post("/api/v1/jobs", json={"videos": urls, "models": ["hog_color"]})
    assert (answer.status_code, fields(answer)) == (413, ["videos"])
    started = time.monotonic()
    answer = client.post("/api/v1/jobs", json={"videos": urls[:-1], "models": ["hog_color"]})
    took_s = time.monotonic() - started
    assert answer.status_code == 202
    assert answer.json["progress"]["keyframes"]["queued"] == 10_000
    assert took_s < 10  # about a second on a quiet machine; this one is not
    with database.transaction() as connection:
        assert connection.execute(text("SELECT count(*) FROM tasks WHERE sent_at IS NULL")).scalar() == 10_000


def test_a_body_above_eight_mebibytes_is_refused(client):
    answer = client.post("/api/v1/jobs", json={"videos": ["https://example.org/" + "a" * (9 * 2**20)]})
    assert answer.status_code == 413
    assert answer.content_type == "application/problem+json"


def test_the_dispatcher_is_woken_when_a_job_is_submitted(submit, database):
    import select

    connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    connection.execute(text(f"LISTEN {tasks.TASKS_CHANNEL}"))
    submit()
    raw = connection.connection.driver_connection
    assert select.select([raw], [], [], 5)[0]
    raw.poll()
    assert raw.notifies
    connection.close()


# --- Idempotency -----------------------------------------------------------------------------------------------------


def test_the_same_request_under_one_idempotency_key_makes_one_job_and_is_answered_the_same(client):
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    answers = [client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert [a.status_code for a in answers] == [202, 202]
    assert answers[0].json == answers[1].json
    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 1


def test_a_key_under_which_something_was_made_that_is_deleted_now_says_so(client):
    body, headers = {"videos": ["https://example.org/a"], "models": ["hog_color"]}, {"Idempotency-Key": "k1"}
    job_id = client.post("/api/v1/jobs", json=body, headers=headers).json["id"]
    grown = {"videos": ["https://example.org/b"]}
    assert (
        client.post(f"/api/v1/jobs/{job_id}/sources", json=grown, headers={"Idempotency-Key": "k2"}).status_code == 202
    )
    client.delete(f"/api/v1/jobs/{job_id}")
    for address, sent, key in (("/api/v1/jobs", body, "k1"), (f"/api/v1/jobs/{job_id}/sources", grown, "k2")):
        answer = client.post(address, json=sent, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.mimetype) == (410, "application/problem+json")
        assert job_id in answer.json["detail"] and "choose a new key" in answer.json["detail"]
    assert client.get("/api/v1/jobs").json["jobs"] == []
    assert client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k3"}).status_code == 202


def test_a_key_under_which_a_clustering_was_asked_for_that_is_deleted_now_says_so(client, submit, database):
    job_id = submit(1)["id"]
    address, headers = f"/api/v1/jobs/{job_id}/clusterings", {"Idempotency-Key": "k1"}
    made = client.post(address, json={"n_clusters": 2}, headers=headers).json["id"]
    assert client.post(address, json={"n_clusters": 2}, headers=headers).json["id"] == made
    with database.transaction() as connection:
        connection.execute(text("DELETE FROM clusterings"))
    assert client.post(address, json={"n_clusters": 2}, headers=headers).status_code == 410


def test_another_request_under_the_same_idempotency_key_is_refused(client):
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k1"})
    answer = client.post("/api/v1/jobs", json={**body, "name": "b"}, headers={"Idempotency-Key": "k1"})
    assert (answer.status_code, fields(answer)) == (422, ["Idempotency-Key"])


def test_a_refused_request_does_not_use_up_its_idempotency_key(client):
    headers = {"Idempotency-Key": "k1"}
    assert client.post("/api/v1/jobs", json={"videos": ["x"]}, headers=headers).status_code == 422
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    assert client.post("/api/v1/jobs", json=body, headers=headers).status_code == 202


def test_an_idempotency_key_is_forgotten_after_a_day(client, database):
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    for _ in range(2):
        answer = client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k1"})
        assert answer.status_code == 202
        with database.transaction() as connection:
            connection.execute(text("UPDATE idempotency_keys SET created_at = created_at - interval '25 hours'"))
    assert len(client.get("/api/v1/jobs").json["jobs"]) == 2


@pytest.mark.parametrize("key", ["", "x" * 256, "two words"])
def test_an_unusable_idempotency_key_is_refused(standing_client, key):
    body = {"videos": ["https://example.org/a"], "models": ["hog_color"]}
    answer = standing_client.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
    assert (answer.status_code, fields(answer)) == (422, ["Idempotency-Key"])


def test_two_concurrent_requests_under_one_idempotency_key_make_one_job(app):
    body = {"videos": [f"https://example.org/{i}" for i in range(500)], "models": ["hog_color"]}
    answers = []
    barrier = threading.Barrier(4)

    def post() -> None:
        barrier.wait()
        answers.append(app.test_client().post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "k"}))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.status_code for a in answers} == {202}
    assert len({a.json["id"] for a in answers}) == 1
    assert len(app.test_client().get("/api/v1/jobs").json["jobs"]) == 1


# --- Watching --------------------------------------------------------------------------------------------------------


def test_a_job_that_ran_through_says_what_was_read_and_kept(client, submit, workers):
    job_id = submit(3)["id"]
    workers.finish(job_id, frames=200, key_frames_each=2)
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert job["state"] == "succeeded"
    assert (job["sources"], job["videos"], job["frames"], job["key_frames_count"]) == (3, 3, 600, 6)
    assert job["reduction"] == pytest.approx(0.99)
    assert job["progress"]["embedding"]["succeeded"] == 3
    assert job["progress"]["clustering"]["succeeded"] == job["progress"]["clustering"]["total"] == 1
    assert job["eta_s"] is None
    assert job["started_at"] <= job["finished_at"]


def test_a_video_behind_two_urls_is_counted_once(client, submit, workers):
    job_id = submit(2)["id"]
    workers.finish(job_id, frames=100, key_frames_each=2, same_video=True)
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert (job["sources"], job["videos"], job["frames"], job["key_frames_count"]) == (2, 1, 100, 2)


def test_the_eta_follows_the_pace_of_the_tasks_that_are_done(client, submit, workers, database):
    job_id = submit(10)["id"]
    with database.transaction() as connection:
        claims = workers.claim(connection, "t.job_id = :job", job=job_id)
        for claim in claims[:4]:
            tasks.succeed(connection, claim)
        connection.execute(
            text("UPDATE tasks SET claimed_at = finished_at - interval '20 s' WHERE state = 'succeeded'")
        )
        connection.execute(text("UPDATE jobs SET resumed_at = resumed_at - interval '20 s'"))
        connection.execute(
            text(
                """UPDATE tasks SET state = 'queued', lease_until = NULL WHERE id IN
                (SELECT id FROM tasks WHERE state = 'running' LIMIT 4)"""
            )
        )
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert (job["progress"]["keyframes"]["running"], job["progress"]["keyframes"]["queued"]) == (2, 4)
    # Four and two halves in 20 s, so the same again.
    assert job["eta_s"] == pytest.approx(20, abs=2)


def test_a_job_at_which_nothing_happened_answers_304_and_its_etag_leaves_the_eta_out(client, submit, workers, database):
    job_id = submit(3)["id"]
    address = f"/api/v1/jobs/{job_id}"
    workers.extract(job_id)
    first = client.get(address)
    etag = first.headers["ETag"]
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    with database.transaction() as connection:
        connection.execute(text("UPDATE jobs SET resumed_at = resumed_at - interval '1 hour'"))
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 304
    workers.embed(job_id)
    assert client.get(address, headers={"If-None-Match": etag}).status_code == 200


def test_jobs_are_listed_newest_first_page_by_page(client, submit):
    ids = [submit(1, name=str(i))["id"] for i in range(5)][::-1]
    seen, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"/api/v1/jobs?limit=2&cursor={cursor}" if cursor else "/api/v1/jobs?limit=2&unknown=1")
        seen += [job["id"] for job in answer.json["jobs"]]
        cursor = answer.json["next_cursor"]
    assert seen == ids
    client.post(f"/api/v1/jobs/{ids[2]}/cancel")
    assert [j["id"] for j in client.get("/api/v1/jobs?state=cancelled").json["jobs"]] == [ids[2]]


@pytest.mark.parametrize("cursor", ["x", "W10=", "WzEsMl0=", "bnVsbA==", "é", "W1tbW1tb"])
def test_a_cursor_of_another_list_is_refused(standing_client, standing_job_id, cursor):
    for address in ("/api/v1/jobs", f"/api/v1/jobs/{standing_job_id}/sources"):
        answer = standing_client.get(address, query_string={"cursor": cursor})
        assert (answer.status_code, fields(answer)) == (422, ["cursor"])


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "state=odd"])
def test_a_page_that_cannot_be_given_is_refused_by_the_name_of_its_parameter(standing_client, query):
    answer = standing_client.get(f"/api/v1/jobs?{query}")
    assert (answer.status_code, fields(answer)) == (422, [query.split("=")[0]])


def test_sources_say_what_came_of_each_url(client, submit, workers):
    job_id = submit(3)["id"]
    workers.fail(job_id, ErrorKind.NOT_FOUND, "https://example.org/0.mp4 answered 404")
    workers.extract(job_id, frames=300, key_frames_each=3)
    sources = client.get(f"/api/v1/jobs/{job_id}/sources").json["sources"]
    failed = next(s for s in sources if s["state"] == "failed")
    assert failed["error"] == {"kind": "not_found", "message": "https://example.org/0.mp4 answered 404"}
    assert (failed["attempts"], failed["video"], failed["key_frames"], failed["reduction"]) == (1, None, None, None)
    done = [s for s in sources if s["state"] == "succeeded"]
    assert len(done) == 2
    assert done[0]["video"]["codec"] == "h264"
    assert (done[0]["video"]["frames"], done[0]["video"]["width_px"], done[0]["key_frames"]) == (300, 640, 3)
    assert done[0]["reduction"] == pytest.approx(0.99)
    only = client.get(f"/api/v1/jobs/{job_id}/sources?state=failed").json["sources"]
    assert [s["id"] for s in only] == [failed["id"]]


def test_sources_are_paged_in_the_order_of_submission(client, submit):
    job = submit(7)
    seen, address = [], job["links"]["sources"] + "?limit=3"
    while address:
        page = client.get(address).json
        seen += [s["position"] for s in page["sources"]]
        address = page["next_cursor"] and f"{job['links']['sources']}?limit=3&cursor={page['next_cursor']}"
    assert seen == list(range(7))


@pytest.mark.parametrize(
    ("method", "address"),
    [
        ("get", "/api/v1/jobs/{}"),
        ("delete", "/api/v1/jobs/{}"),
        ("get", "/api/v1/jobs/{}/sources"),
        ("post", "/api/v1/jobs/{}/cancel"),
        ("post", "/api/v1/jobs/{}/retry"),
    ],
)
def test_an_unknown_job_is_not_found(standing_client, method, address):
    answer = getattr(standing_client, method)(address.format(UNKNOWN))
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert UNKNOWN in answer.json["detail"]
    assert fields(answer) == ["job_id"]


# --- Cancel, retry, grow ---------------------------------------------------------------------------------------------


def test_cancelling_is_done_at_once_and_doing_it_again_changes_nothing(client, submit):
    job_id = submit(3)["id"]
    for _ in range(2):
        answer = client.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (answer.status_code, answer.json["state"]) == (202, "cancelled")
    assert answer.json["progress"]["keyframes"]["cancelled"] == 3


def test_a_job_that_is_done_stays_done_when_it_is_cancelled(client, submit, workers):
    job_id = submit(1)["id"]
    workers.finish(job_id)
    answer = client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json["state"]) == (202, "succeeded")


def test_retry_does_only_what_failed_in_a_new_round(client, submit, workers):
    job_id = submit(3)["id"]
    workers.fail(job_id, ErrorKind.THROTTLED, "too many requests")
    workers.finish(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "partly_failed"
    answer = client.post(f"/api/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.json["state"], answer.json["round"]) == (202, "running", 2)
    assert answer.json["progress"]["keyframes"]["queued"] == 1
    workers.finish(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"
    answer = client.post(f"/api/v1/jobs/{job_id}/retry")
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")


def test_a_cancelled_job_can_be_tried_again(client, submit, workers):
    job_id = submit(2)["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert client.post(f"/api/v1/jobs/{job_id}/retry").json["state"] == "running"
    workers.finish(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_a_job_says_why_its_embedding_failed_each_reason_once(client, submit, workers):
    job_id = submit(3)["id"]
    workers.extract(job_id)
    workers.fail(job_id, ErrorKind.WEIGHTS_MISSING, "There are no weights.", queue="embedding", limit=2)
    workers.fail(job_id, ErrorKind.BAD_PICTURE, "One is <damaged>.", queue="embedding")
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert job["state"] == "failed"
    assert job["failures"] == [
        {"stage": "embedding", "model": "hog_color", "kind": kind, "message": message, "tasks": tasks}
        for kind, message, tasks in (
            ("weights_missing", "There are no weights.", 2),
            ("bad_picture", "One is <damaged>.", 1),
        )
    ]
    assert client.get("/api/v1/jobs").json["jobs"][0]["failures"] == job["failures"]
    page = client.get(f"/jobs/{job_id}").text
    assert "Embedding with hog_color" in page and "One is &lt;damaged&gt;." in page


def test_a_failed_clustering_is_tried_again_in_a_new_round(client, submit, workers):
    job_id = submit(1)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.fail(job_id, ErrorKind.BAD_VECTORS, "NaN", queue="clustering")
    job = client.get(f"/api/v1/jobs/{job_id}").json
    assert (job["state"], [failure["stage"] for failure in job["failures"]]) == ("failed", ["clustering"])
    job = client.post(f"/api/v1/jobs/{job_id}/retry").json
    assert job["failures"] == []
    assert (job["state"], job["progress"]["clustering"]["queued"]) == ("running", 1)
    workers.cluster(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_added_videos_make_a_new_round_and_known_ones_are_named(client, submit, workers):
    job_id = submit(["https://example.org/a", "https://example.org/b"])["id"]
    workers.finish(job_id)
    body = {"videos": ["https://example.org/b", "https://example.org/c", "https://example.org/c"]}
    answer = client.post(f"/api/v1/jobs/{job_id}/sources", json=body)
    assert (answer.status_code, answer.json["state"], answer.json["round"]) == (202, "running", 2)
    assert answer.json["repeated_urls"] == ["https://example.org/c", "https://example.org/b"]
    sources = client.get(f"/api/v1/jobs/{job_id}/sources").json["sources"]
    assert [(s["position"], s["url"][-1], s["state"]) for s in sources] == [
        (0, "a", "succeeded"),
        (1, "b", "succeeded"),
        (2, "c", "queued"),
    ]
    workers.finish(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_adding_only_known_videos_changes_nothing(client, submit, workers):
    job_id = submit(2)["id"]
    workers.finish(job_id)
    answer = client.post(f"/api/v1/jobs/{job_id}/sources", json={"videos": ["https://example.org/1.mp4"]})
    assert (answer.status_code, answer.json["state"], answer.json["round"]) == (202, "succeeded", 1)
    assert answer.json["repeated_urls"] == ["https://example.org/1.mp4"]


def test_an_added_model_embeds_what_is_there_and_decodes_nothing_again(client, submit, workers):
    job_id = submit(2)["id"]
    workers.finish(job_id)
    answer = client.post(f"/api/v1/jobs/{job_id}/models", json={"models": ["tiny", "hog_color"]})
    job = answer.json
    assert (answer.status_code, job["state"], job["round"], job["models"]) == (202, "running", 2, ["hog_color", "tiny"])
    assert (job["progress"]["keyframes"]["queued"], job["progress"]["embedding"]["queued"]) == (0, 2)
    workers.embed(job_id)
    workers.cluster(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_an_added_model_whose_vectors_are_all_there_goes_straight_to_clustering(client, submit, workers):
    for models in (["tiny"], ["hog_color"]):
        job_id = submit(2, models=models)["id"]
        workers.extract(job_id, same_video=True)
        workers.embed(job_id)
        workers.cluster(job_id)
    job = client.post(f"/api/v1/jobs/{job_id}/models", json={"models": ["tiny"]}).json
    assert job["progress"]["embedding"]["queued"] == 0
    # What the first model's vectors give has been clustered already.
    assert (job["progress"]["clustering"]["queued"], job["progress"]["clustering"]["succeeded"]) == (1, 1)
    workers.cluster(job_id)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_adding_a_model_that_the_job_has_changes_nothing(client, submit, workers):
    job_id = submit(1)["id"]
    workers.finish(job_id)
    answer = client.post(f"/api/v1/jobs/{job_id}/models", json={"models": ["hog_color"]})
    assert (answer.status_code, answer.json["state"], answer.json["round"]) == (202, "succeeded", 1)


def test_an_unknown_model_is_not_added(client, submit):
    job_id = submit(1)["id"]
    answer = client.post(f"/api/v1/jobs/{job_id}/models", json={"models": ["hog_color", "x"]})
    assert (answer.status_code, fields(answer)) == (422, ["models.1"])


@pytest.mark.parametrize(
    ("part", "body"), [("sources", {"videos": ["https://e.org/x"]}), ("models", {"models": ["tiny"]})]
)
def test_a_cancelled_job_does_not_grow(client, submit, part, body):
    job_id = submit(1)["id"]
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    answer = client.post(f"/api/v1/jobs/{job_id}/{part}", json=body)
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")


# --- Delete ----------------------------------------------------------------------------------------------------------


def count(database, *tables: str) -> list[int]:
    with database.transaction() as connection:
        return [connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]


def files(service) -> int:
    return sum(1 for _ in service.blobs.entries(""))


def test_a_deleted_job_leaves_no_row_and_no_blob(client, submit, workers, database, service):
    job_id = submit(3)["id"]
    workers.finish(job_id)
    assert files(service) == 18
    answer = client.delete(f"/api/v1/jobs/{job_id}")
    assert (answer.status_code, answer.data) == (204, b"")
    tables = [
        "jobs",
        "sources",
        "tasks",
        "videos",
        "extractions",
        "key_frames",
        "embeddings",
        "clusterings",
        "clusters",
        "assignments",
    ]
    assert count(database, *tables) == [0] * len(tables)
    assert files(service) == 0
    assert client.delete(f"/api/v1/jobs/{job_id}").status_code == 404


def test_what_another_job_refers_to_outlives_a_deleted_job(client, submit, workers, database, service):
    first, second = submit(2)["id"], submit(1)["id"]
    for job_id in (first, second):
        workers.extract(job_id, same_video=True)
        workers.embed(job_id)
        workers.cluster(job_id)
    client.delete(f"/api/v1/jobs/{first}")
    assert count(database, "videos", "key_frames", "embeddings", "sources", "clusterings") == [1, 3, 3, 1, 1]
    assert files(service) == 6
    client.delete(f"/api/v1/jobs/{second}")
    assert count(database, "videos", "key_frames", "embeddings") == [0, 0, 0]
    assert files(service) == 0


@pytest.mark.parametrize("state", ["queued", "running", "cancelled"])
def test_a_job_is_deleted_in_any_state_and_its_workers_are_fenced(client, submit, workers, database, state):
    job_id = submit(2)["id"]
    claims = []
    if state == "running":
        with database.transaction() as connection:
            claims = workers.claim(connection, "true")
    elif state == "cancelled":
        client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert client.delete(f"/api/v1/jobs/{job_id}").status_code == 204
    with database.transaction() as connection:
        assert not any(tasks.succeed(connection, claim) for claim in claims)
        assert tasks.renew(connection, claims, lease_s=60) == set()


def test_deleting_waits_for_a_worker_that_is_saving_and_takes_what_it_saved(app, submit, workers, database, service):
    job_id = submit(1)["id"]
    answers = []
    with database.transaction() as connection:
        (claim,) = workers.claim(connection, "true")
    with database.transaction() as connection:
        assert tasks.succeed(connection, claim)
        deleting = threading.Thread(target=lambda: answers.append(app.test_client().delete(f"/api/v1/jobs/{job_id}")))
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive()
        workers._save_video(connection, claim, 0, 100, 3)
        tasks.lock_job(connection, job_id)
        tasks.add_embedding_tasks(connection, job_id)
        tasks.advance(connection, job_id)
    deleting.join(10)
    assert answers[0].status_code == 204
    assert count(database, "jobs", "tasks", "videos", "key_frames") == [0, 0, 0, 0]
    assert files(service) == 0


def test_a_video_that_another_job_is_saving_at_that_moment_stays(app, submit, workers, database, service):
    first, second = submit(1)["id"], submit(1)["id"]
    workers.extract(first, same_video=True)
    answers = []
    with database.transaction() as connection:
        (claim,) = workers.claim(connection, "t.job_id = :job", job=second)
    with database.transaction() as connection:
        assert tasks.succeed(connection, claim)
        workers._save_video(connection, claim, 0, 100, 3)
        deleting = threading.Thread(target=lambda: answers.append(app.test_client().delete(f"/api/v1/jobs/{first}")))
        deleting.start()
        deleting.join(0.3)
        assert deleting.is_alive()
        tasks.advance(connection, second)
    deleting.join(10)
    assert answers[0].status_code == 204
    assert count(database, "jobs", "videos", "key_frames") == [1, 1, 3]
    assert files(service) == 6


def test_deleting_a_job_of_thousands_of_sources_takes_seconds(client, database):
    urls = [f"https://example.org/{i}.mp4" for i in range(10_000)]
    job_ids = [client.post("/api/v1/jobs", json={"videos": urls, "models": ["hog_color"]}).json["id"] for _ in range(2)]
    started = time.monotonic()
    assert client.delete(f"/api/v1/jobs/{job_ids[0]}").status_code == 204
    assert time.monotonic() - started < 10

"""Search by key frame and by picture over HTTP, on a real Postgres."""

from __future__ import annotations

import io
import threading
import time

import pytest
from PIL import Image
from sqlalchemy import text

from shared import tasks
from shared.errors import ErrorKind

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def fields(answer) -> list[str]:
    assert answer.content_type == "application/problem+json"
    return [error["field"] for error in answer.json["errors"]]


@pytest.fixture
def job_id(submit, workers) -> str:
    """A finished job whose 6 key frames lie on an arc, each 0.01 rad from the one before."""
    job_id = submit(2)["id"]
    workers.finish(job_id)
    return job_id


@pytest.fixture
def on_the_arc(database, job_id) -> list[str]:
    """Ids of the key frames along the arc."""
    with database.transaction() as connection:
        return list(
            connection.execute(
                text(
                    "SELECT key_frame_id FROM embeddings"
                    " ORDER BY vector <=> (SELECT vector FROM embeddings ORDER BY (vector::real[])[2] LIMIT 1)"
                )
            ).scalars()
        )


def answer_query(workers, vector: str) -> str:
    """Do the waiting query task as the embedding service would. Returns the query's id."""
    with workers.service.database.transaction() as connection:
        (claim,) = workers.claim(connection, "t.queue = 'query'")
        assert tasks.succeed(connection, claim)
        connection.execute(
            text("UPDATE queries SET vector = CAST(:vector AS vector) WHERE id = :id"),
            {"vector": vector, "id": claim.query_id},
        )
        connection.execute(text("SELECT pg_notify(:c, :id)"), {"c": tasks.QUERIES_CHANNEL, "id": claim.query_id})
    return claim.query_id


def send(client, picture: bytes, **form: object):
    return client.post("/api/v1/search", data={"picture": (io.BytesIO(picture), "picture.jpg"), **form})


def test_a_key_frame_finds_its_neighbours_nearest_first_and_not_itself(client, on_the_arc):
    answer = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0], "limit": 3})
    assert answer.status_code == 200
    assert answer.json["query"] == {"key_frame_id": on_the_arc[0], "query_id": None}
    assert answer.json["model"] == "hog_color"
    results = answer.json["results"]
    assert [r["id"] for r in results] == on_the_arc[1:4]
    # 1 - cos of 0.01, 0.02 and 0.03 rad
    assert [r["distance"] for r in results] == pytest.approx([5e-5, 2e-4, 4.5e-4], rel=0.01)
    assert results[0]["sources"][0]["url"].startswith("https://example.org/")


def test_only_the_jobs_that_were_named_are_searched(client, on_the_arc, job_id, submit, workers):
    other = submit(["https://example.org/other.mp4"])["id"]
    workers.finish(other)
    everywhere = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0]}).json["results"]
    here = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0], "jobs": [job_id]}).json["results"]
    there = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0], "jobs": [other]}).json["results"]
    assert (len(everywhere), len(here), len(there)) == (8, 5, 3)
    assert {source["job_id"] for r in there for source in r["sources"]} == {other}


def test_a_key_frame_that_two_jobs_share_is_found_once(client, submit, workers):
    for _ in range(2):
        job_id = submit(1)["id"]
        workers.extract(job_id, same_video=True)
        workers.embed(job_id)
    example = client.post(f"/api/v1/jobs/{job_id}/retry")  # nothing failed
    assert example.status_code == 409
    with workers.service.database.transaction() as connection:
        key_frame_id = connection.execute(text("SELECT id FROM key_frames LIMIT 1")).scalar()
    results = client.post("/api/v1/search", json={"key_frame_id": key_frame_id}).json["results"]
    assert len(results) == 2
    assert len(results[0]["sources"]) == 2


def test_a_vector_of_zeros_is_near_to_nothing(client, on_the_arc, database):
    with database.transaction() as connection:
        connection.execute(
            text("UPDATE embeddings SET vector = '[0,0,0]' WHERE key_frame_id = :id"), {"id": on_the_arc[1]}
        )
    found = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0]}).json["results"]
    assert on_the_arc[1] not in [r["id"] for r in found]
    assert len(found) == 4


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        ({}, 422, ["key_frame_id"]),
        ({"key_frame_id": "x"}, 422, ["key_frame_id"]),
        ({"key_frame_id": UNKNOWN}, 404, ["key_frame_id"]),
        ({"query_id": UNKNOWN}, 404, ["query_id"]),
        ({"key_frame_id": UNKNOWN, "query_id": UNKNOWN}, 422, ["key_frame_id"]),
        ({"key_frame_id": UNKNOWN, "jobs": [UNKNOWN]}, 422, ["jobs.0"]),
        ({"key_frame_id": UNKNOWN, "limit": 0}, 422, ["limit"]),
        ({"key_frame_id": UNKNOWN, "k": 1}, 422, ["k"]),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(standing_client, body, status, named):
    answer = standing_client.post("/api/v1/search", json=body)
    assert (answer.status_code, fields(answer)) == (status, named)


def test_what_is_no_id_of_a_job_is_said_to_be_none(standing_client):
    for odd in ("x", f"{UNKNOWN}\n", "../" + UNKNOWN):
        [error] = standing_client.post("/api/v1/search", json={"key_frame_id": UNKNOWN, "jobs": [odd]}).json["errors"]
        assert error["field"] == "jobs.0" and error["message"].startswith("this is no id, nor the beginning of one")


def test_a_model_that_the_key_frame_has_no_vector_of_is_refused(client, on_the_arc):
    answer = client.post("/api/v1/search", json={"key_frame_id": on_the_arc[0], "model": "tiny"})
    assert (answer.status_code, fields(answer)) == (422, ["model"])


def test_a_picture_is_answered_at_once_when_its_vector_comes_in_time(
    app, client, on_the_arc, workers, jpeg, monkeypatch
):
    from dataclasses import replace

    service = replace(workers.service, settings=replace(workers.service.settings, query_wait_s=10))
    monkeypatch.setitem(app.extensions, "reelmap", service)
    answers = []
    sending = threading.Thread(target=lambda: answers.append(send(app.test_client(), jpeg, limit="2")))
    started = time.monotonic()
    sending.start()
    while True:
        try:
            query_id = answer_query(workers, "[1,0,0]")
            break
        except ValueError:
            assert time.monotonic() - started < 10
            time.sleep(0.02)
    sending.join(10)
    assert answers[0].status_code == 200
    assert answers[0].json["query"] == {"key_frame_id": None, "query_id": query_id}
    assert [r["id"] for r in answers[0].json["results"]] == on_the_arc[:2]
    with workers.service.database.transaction() as connection:
        blob = connection.execute(text("SELECT blob FROM queries")).scalar()
    assert workers.service.blobs.read(blob) == jpeg


def test_a_picture_whose_vector_takes_longer_is_polled_for(client, on_the_arc, workers, jpeg, job_id):
    answer = send(client, jpeg, limit="1", jobs=job_id, model="hog_color")
    assert answer.status_code == 202
    address = answer.headers["Location"]
    assert answer.json["links"]["self"] == address
    assert answer.headers["Retry-After"] == "2"
    again = client.get(address)
    assert (again.status_code, again.headers["Location"]) == (202, address)
    query_id = answer_query(workers, "[1,0,0]")
    done = client.get(address)
    assert done.status_code == 200
    assert [r["id"] for r in done.json["results"]] == on_the_arc[:1]
    by_id = client.post("/api/v1/search", json={"query_id": query_id, "limit": 1, "jobs": [job_id]})
    assert by_id.json == done.json


def test_a_picture_that_was_sent_is_searched_with_under_another_model(client, on_the_arc, workers, jpeg, database):
    query_id = send(client, jpeg).json["query"]["query_id"]
    answer_query(workers, "[1,0,0]")
    other = client.post("/api/v1/search", json={"query_id": query_id, "model": "tiny"})
    assert (other.status_code, other.json["model"]) == (202, "tiny")
    other_id = other.json["query"]["query_id"]
    assert other_id != query_id
    again = client.post("/api/v1/search", json={"query_id": query_id, "model": "tiny"})
    assert again.json["query"]["query_id"] == other_id, "it is embedded once"
    back = client.post("/api/v1/search", json={"query_id": other_id, "model": "hog_color", "limit": 1})
    assert (back.status_code, back.json["query"]["query_id"]) == (200, query_id)
    for model in ("magic", "vit_mae_base"):
        refused = client.post("/api/v1/search", json={"query_id": query_id, "model": model})
        assert (refused.status_code, fields(refused)) == (422, ["model"])
    for each in (query_id, other_id):
        assert client.get(f"/api/v1/searches/{each}/picture").data == jpeg


def test_the_picture_that_was_sent_is_given_back(client, on_the_arc, jpeg, service):
    answer = send(client, jpeg)
    address = answer.json["links"]["picture"]
    picture = client.get(address)
    assert (picture.data, picture.mimetype) == (jpeg, "image/jpeg")
    assert (picture.headers["X-Content-Type-Options"], picture.cache_control.private) == ("nosniff", True)
    sent = png(8, 8)
    assert client.get(send(client, sent).json["links"]["picture"]).mimetype == "image/png"
    for name, *_ in list(service.blobs.entries("queries/")):
        service.blobs.delete([name])
    gone = client.get(address)
    assert (gone.status_code, gone.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("by", ["key frame", "picture"])
def test_results_are_paged_without_loss_at_equal_distances(client, on_the_arc, database, workers, jpeg, by):
    with database.transaction() as connection:
        same = "UPDATE embeddings SET vector = '[0, 1, 0]' WHERE key_frame_id = ANY(CAST(:ids AS uuid[]))"
        connection.execute(text(same), {"ids": on_the_arc[2:]})
    if by == "picture":
        query_id = send(client, jpeg).json["query"]["query_id"]
        answer_query(workers, "[1,0,0]")
        ask = {"query_id": query_id}
    else:
        ask = {"key_frame_id": on_the_arc[0]}
    seen, cursor = [], None
    while True:
        page = client.post("/api/v1/search", json={**ask, "limit": 2, **({"cursor": cursor} if cursor else {})}).json
        if by == "picture":
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            assert client.get(f"/api/v1/searches/{query_id}", query_string=query).json == page
        seen += [result["id"] for result in page["results"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == (6 if by == "picture" else 5)
    wrong = client.post("/api/v1/search", json={**ask, "cursor": "nonsense"})
    assert (wrong.status_code, fields(wrong)) == (422, ["cursor"])


def test_the_model_that_is_left_out_is_the_first_of_the_job(client, submit, workers):
    for models in (["tiny", "hog_color"], ["hog_color", "tiny"]):
        job_id = submit(1, models=models)["id"]
        workers.extract(job_id, same_video=True)
        workers.embed(job_id)
        key_frame_id = client.get(f"/api/v1/jobs/{job_id}/key-frames").json["key_frames"][0]["id"]
        for jobs in ({}, {"jobs": [job_id]}):
            assert client.post("/api/v1/search", json={"key_frame_id": key_frame_id, **jobs}).json["model"] == models[0]


def test_a_key_frame_is_searched_with_in_another_job_by_a_model_of_that_job(client, submit, workers):
    asked_from = submit(["https://example.org/a.mp4"], models=["hog_color", "tiny"])["id"]
    searched = submit(["https://example.org/b.mp4"], models=["tiny"])["id"]
    for job_id in (asked_from, searched):
        workers.extract(job_id)
        workers.embed(job_id)
    key_frame_id = client.get(f"/api/v1/jobs/{asked_from}/key-frames").json["key_frames"][0]["id"]
    answer = client.post("/api/v1/search", json={"key_frame_id": key_frame_id, "jobs": [searched]}).json
    assert answer["model"] == "tiny" and len(answer["results"]) == 3


@pytest.mark.parametrize(("kind", "status"), [(ErrorKind.BAD_PICTURE, 422), (ErrorKind.WEIGHTS_CHANGED, 500)])
def test_a_picture_that_could_not_be_embedded_says_why(client, job_id, workers, jpeg, kind, status):
    address = send(client, jpeg).headers["Location"]
    with workers.service.database.transaction() as connection:
        (claim,) = workers.claim(connection, "t.queue = 'query'")
        tasks.fail(connection, claim, kind, "the picture ends in the middle")
    answer = client.get(address)
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert "the picture ends in the middle" in answer.json["detail"]


def png(width_px: int, height_px: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width_px, height_px)).save(buffer, "PNG")
    return buffer.getvalue()


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "picture",
    [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>", gif(), png(8000, 7000), png(20000, 20000)],
    ids=["empty", "text", "svg", "gif", "too many pixels", "a bomb"],
)
def test_what_is_no_picture_or_too_large_a_one_is_refused_at_the_door(standing_client, standing_job_id, picture):
    answer = send(standing_client, picture)
    assert (answer.status_code, fields(answer)) == (422, ["picture"])
    assert list(standing_client.application.extensions["reelmap"].blobs.entries("queries/")) == []


def test_a_picture_of_too_many_bytes_is_refused_while_it_is_read(standing_client, standing_job_id):
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.jpg"\r\n\r\n'
    body = head + b"\xff" * (21 * 2**20) + b"\r\n--x--\r\n"
    answer = standing_client.post("/api/v1/search", data=body, content_type="multipart/form-data; boundary=x")
    assert (answer.status_code, answer.content_type) == (413, "application/problem+json")


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ({"jobs": "x"}, ["jobs.0"]),
        ({"jobs": UNKNOWN}, ["jobs.0"]),
        ({"model": "x"}, ["model"]),
        ({"model": "vit_mae_base"}, ["model"]),
        ({"limit": "0"}, ["limit"]),
        ({"colour": "red"}, ["colour"]),
    ],
)
def test_a_forms_fields_are_checked_as_those_of_json_are(standing_client, standing_job_id, jpeg, form, named):
    answer = send(standing_client, jpeg, **form)
    assert (answer.status_code, fields(answer)) == (422, named)


def test_a_form_without_a_picture_is_refused(standing_client, standing_job_id):
    answer = standing_client.post("/api/v1/search", data={"limit": "3"}, content_type="multipart/form-data")
    assert (answer.status_code, fields(answer)) == (422, ["picture"])


def test_without_any_job_there_is_nothing_to_search(client, jpeg):
    assert send(client, jpeg).status_code == 422


def test_a_body_of_another_kind_is_not_understood(client):
    answer = client.post("/api/v1/search", data="key_frame_id=1", content_type="text/plain")
    assert (answer.status_code, answer.content_type) == (415, "application/problem+json")

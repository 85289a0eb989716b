"""The beginning of an id in the place of the id."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from services.api import short_ids

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def finished(client, submit, workers):
    job_id = submit(2)["id"]
    workers.finish(job_id)
    return job_id


def test_every_id_in_an_address_may_be_its_beginning(client, finished):
    short = finished[:8]
    assert client.get(f"/api/v1/jobs/{short}").json["id"] == finished
    assert client.get(f"/api/v1/jobs/{finished[:9]}").json["id"] == finished
    assert client.get(f"/api/v1/jobs/{finished[:20].upper()}").json["id"] == finished
    assert client.get(f"/jobs/{short}").status_code == 200
    [clustering] = client.get(f"/api/v1/jobs/{short}/clusterings").json["clusterings"]
    assert client.get(f"/api/v1/clusterings/{clustering['id'][:8]}").json["id"] == clustering["id"]
    [cluster, *_] = client.get(f"/api/v1/clusterings/{clustering['id'][:8]}/clusters").json["clusters"]
    [key_frame, *_] = client.get(f"/api/v1/clusters/{cluster['id'][:8]}/key-frames").json["key_frames"]
    assert client.get(f"/key-frames/{key_frame['id'][:8]}").status_code == 200
    [source, _] = client.get(f"/api/v1/jobs/{short}/sources").json["sources"]
    assert client.delete(f"/api/v1/jobs/{short}/sources/{source['id'][:8]}").status_code == 204


def test_every_id_in_a_request_may_be_its_beginning(client, finished):
    [clustering] = client.get(f"/api/v1/jobs/{finished}/clusterings").json["clusterings"]
    [cluster, *_] = client.get(clustering["links"]["clusters"]).json["clusters"]
    [key_frame, *_] = client.get(cluster["links"]["key_frames"]).json["key_frames"]
    search = {"key_frame_id": key_frame["id"][:8], "jobs": [finished[:9].upper()]}
    for asked, subject in (
        ({"job_id": finished[:8]}, {"job_id": finished}),
        ({"clustering_id": clustering["id"][:8]}, {"clustering_id": clustering["id"]}),
        ({"cluster_id": cluster["id"][:13].upper()}, {"cluster_id": cluster["id"]}),
        ({"search": search}, {"key_frame_id": key_frame["id"], "jobs": [finished]}),
    ):
        answer = client.post("/api/v1/exports", json=asked)
        assert answer.status_code == 202, answer.json
        assert subject.items() <= answer.json["subject"].items()
        assert client.post("/exports", data={**asked, **asked.pop("search", {})}).status_code == 303
    answer = client.post("/api/v1/search", json=search)
    assert (answer.status_code, answer.json["query"]["key_frame_id"]) == (200, key_frame["id"])


@pytest.mark.parametrize("body", [{"job_id": "1234567"}, {"cluster_id": "1234567g"}, {"search": {"jobs": ["a" * 37]}}])
def test_what_is_no_beginning_of_an_id_is_refused_in_words(standing_client, body):
    answer = standing_client.post("/api/v1/exports", json=body)
    assert (answer.status_code, "at least 8 characters" in answer.json["detail"]) == (422, True)


def test_the_beginning_of_the_id_of_another_projects_row_is_that_of_none(finished, with_key, closed_client):
    reader, stranger = with_key("reader"), with_key("reader", project="other")
    for body in ({"job_id": finished[:8]}, {"search": {"key_frame_id": UNKNOWN, "jobs": [finished[:8]]}}):
        own, others = (client.post("/api/v1/exports", json=body) for client in (reader, stranger))
        assert (own.status_code, others.status_code) == (202 if "job_id" in body else 404, 404)
        assert finished not in others.text
    assert stranger.get(f"/api/v1/jobs/{finished[:8]}").json["detail"] == f"There is no job {finished[:8]}."


def test_noise_goes_by_the_beginning_of_its_clusterings_id(client, submit, workers):
    job_id = submit(2)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, noise=2)
    [clustering] = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    noise = client.get(f"/api/v1/clusters/{clustering['id'][:8]}").json
    assert (noise["id"], noise["label"], noise["size"]) == (clustering["id"], -1, 2)


def test_a_beginning_of_nothing_and_one_of_several_are_told(client, submit, database):
    submit(1)
    assert client.get("/api/v1/jobs/00000000").status_code == 404
    with database.transaction() as connection:
        for number in range(2):
            connection.execute(
                text(
                    """INSERT INTO jobs (id, project_id, models, key_frames, clustering)
                    SELECT CAST(:id AS uuid), project_id, models, key_frames, clustering FROM jobs LIMIT 1"""
                ),
                {"id": f"12345678-{number}000-4000-8000-000000000000"},
            )
    answer = client.get("/api/v1/jobs/12345678")
    assert answer.status_code == 404
    assert "more than one job whose id begins with 12345678" in answer.json["detail"]
    assert client.get("/api/v1/jobs/12345678-1").status_code == 200


@pytest.mark.parametrize("id_", ["1234567", "12345678-", "1234567g", "123456789", "12345678-12345", "x" * 36])
def test_what_is_no_beginning_of_an_id_is_no_address(id_, client):
    assert client.get(f"/api/v1/jobs/{id_}").status_code == 404


def test_every_name_of_an_id_in_an_address_is_known(app):
    names = {
        name for rule in app.url_map.iter_rules() for name, converter in rule._converters.items()
        if type(converter) is app.url_map.converters["id"]
    }  # fmt: skip
    assert names <= set(short_ids.KINDS)

"""Projects see nothing of each other, at any address."""

from __future__ import annotations

import io
import re

import pytest
from sqlalchemy import text

from services.api import access

pytestmark = pytest.mark.integration

BROWSER = {"Accept": "text/html,*/*;q=0.8"}
#: Bodies under which an address would do something, if what it names were there.
BODIES = {
    "sources.add_sources": {"json": {"videos": ["https://example.org/b.mp4"]}},
    "sources.correct_source": {"json": {"url": "https://example.org/b.mp4"}},
    "sources.remove_sources": {"query_string": {"state": "failed"}},
    "clusterings.change_clustering": {"json": {"name": "Mine"}},
    "jobs.add_models": {"json": {"models": ["tiny"]}},
    "clusterings.add_clustering": {"json": {"n_clusters": 2}},
    "job_pages.add_sources": {"data": {"videos": "https://example.org/b.mp4"}},
    "job_pages.add_models": {"data": {"models": "tiny"}},
    "job_pages.add_clustering": {"data": {"n_clusters": "2", "model": "hog_color"}},
}


@pytest.fixture
def ids(client, submit, workers, jpeg) -> dict[str, str]:
    """Ids of everything there is in the default project, by the name that addresses give them."""
    job = submit(2, name="Theirs")
    workers.finish(job["id"])
    clustering = client.get(job["links"]["clusterings"]).json["clusterings"][0]
    cluster = client.get(clustering["links"]["clusters"]).json["clusters"][0]
    form = {"picture": (io.BytesIO(jpeg), "a.jpg"), "model": "hog_color"}
    searched = client.post("/api/v1/search", data=form)
    assert searched.status_code == 202
    [source, _] = client.get(job["links"]["sources"]).json["sources"]
    export = client.post("/api/v1/exports", json={"job_id": job["id"], "format": "jsonl"})
    assert export.status_code == 202
    upload = client.post("/api/v1/uploads", data=b"film", content_type="application/octet-stream").json
    return {
        "job_id": job["id"],
        "clustering_id": clustering["id"],
        "cluster_id": cluster["id"],
        "key_frame_id": cluster["medoid"]["id"],
        "source_id": source["id"],
        "video_id": source["video"]["id"],
        "export_id": export.json["id"],
        "query_id": searched.json["query"]["query_id"],
        "upload_id": upload["id"],
    }


@pytest.fixture
def keyed(ids, with_key, database) -> dict[str, str]:
    """The same, with the id of a key."""
    with_key("reader", name="theirs")
    with database.transaction() as connection:
        return {**ids, "key_id": connection.execute(text("SELECT id FROM api_keys")).scalar_one()}


def addresses(url_map, ids: dict[str, str]):
    """(endpoint, method, path) of every address that names something, filled in."""
    for rule in url_map.iter_rules():
        names = re.findall(r"<id:(\w+)>", rule.rule)
        if names:
            path = re.sub(r"<id:(\w+)>", lambda match: ids[match[1]], rule.rule)
            for method in sorted(rule.methods - {"OPTIONS", "HEAD"}):
                yield rule.endpoint, method, path


def test_what_another_project_has_is_not_there(closed_app, with_key, keyed, client, database):
    stranger = with_key("admin", name="stranger", project="another")
    before = counts(database)
    seen = 0
    beginnings = {name: id_[:8] for name, id_ in keyed.items()}
    for named in (keyed, beginnings):
        for endpoint, method, path in addresses(closed_app.url_map, named):
            answer = stranger.open(path, method=method, headers=BROWSER, **BODIES.get(endpoint, {}))
            assert answer.status_code == 404, (method, path, answer.text)
            assert "Theirs" not in answer.text and "example.org" not in answer.text
            assert named is keyed or not [id_ for id_ in keyed.values() if id_ in answer.text]
            seen += 1
    assert seen >= 25
    assert counts(database) == before
    # The same requests are answered where they belong, so it is the project that makes the difference.
    owner = with_key("admin", name="owner")
    for _, method, path in addresses(closed_app.url_map, keyed):
        if method == "GET":
            assert owner.get(path).status_code in (200, 202, 409), path


def test_lists_and_searches_find_nothing_of_another_project(with_key, keyed):
    stranger = with_key("admin", name="stranger", project="another")
    assert stranger.get("/api/v1/jobs").json["jobs"] == []
    assert [key["name"] for key in stranger.get("/api/v1/keys").json["keys"]] == ["stranger"]
    for body, status in (
        ({"key_frame_id": keyed["key_frame_id"]}, 404),
        ({"query_id": keyed["query_id"]}, 404),
        ({"key_frame_id": keyed["key_frame_id"], "jobs": [keyed["job_id"]]}, 422),
    ):
        answer = stranger.post("/api/v1/search", json=body)
        assert answer.status_code == status
        assert "results" not in answer.json
    for page in ("/", "/search", "/keys", f"/search?job={keyed['job_id']}"):
        shown = stranger.get(page, headers=BROWSER)
        assert shown.status_code == 200
        for id_ in keyed.values():
            assert id_ not in shown.text.replace(page, ""), page
        assert "Theirs" not in shown.text


def test_an_upload_and_an_idempotency_key_belong_to_a_project(with_key, keyed):
    owner, stranger = with_key("writer", name="owner"), with_key("writer", name="stranger", project="another")
    refused = stranger.post("/api/v1/jobs", json={"videos": [f"upload:{keyed['upload_id']}"], "models": ["hog_color"]})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "videos.0")
    body = {"videos": ["https://example.org/a.mp4"], "models": ["hog_color"]}
    first = owner.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "same"}).json
    second = stranger.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "same"}).json
    assert first["id"] != second["id"]
    assert owner.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": "same"}).json["id"] == first["id"]
    assert [job["id"] for job in stranger.get("/api/v1/jobs").json["jobs"]] == [second["id"]]


def test_a_search_finds_only_key_frames_of_its_projects_jobs(with_key, keyed, database):
    owner = with_key("reader", name="owner")
    found = owner.post("/api/v1/search", json={"key_frame_id": keyed["key_frame_id"], "limit": 500}).json["results"]
    assert found
    with database.transaction() as connection:
        connection.execute(
            text(
                """WITH p AS (INSERT INTO projects (name) VALUES ('third') RETURNING id)
                UPDATE jobs SET project_id = p.id FROM p WHERE jobs.id = :job"""
            ),
            {"job": keyed["job_id"]},
        )
    moved = owner.post("/api/v1/search", json={"key_frame_id": keyed["key_frame_id"], "limit": 500}).json["results"]
    assert moved == []


@pytest.mark.parametrize(
    "url",
    ["s3://bucket/key.mp4", "s3://bucket/", "s3://b/../k", "S3://b/k", "file:///etc/passwd", "ftp://example.org/a",
     "gopher://example.org", "data:video/mp4,x", "javascript:alert(1)", "concat:a|b", "http+unix://x",
     "//example.org/a", "upload:../x", "upload://x"],
)  # fmt: skip
def test_other_schemes_are_refused_in_one_sentence(standing_client, url):
    answer = standing_client.post("/api/v1/jobs", json={"videos": [url], "models": ["hog_color"]})
    assert (answer.status_code, answer.json["errors"][0]["field"]) == (422, "videos.0")
    sentence = answer.json["errors"][0]["message"]
    assert "cannot be used as a video's address" in sentence
    assert sentence.endswith(".") and "\n" not in sentence


def counts(database) -> list[tuple[str, int]]:
    """Rows of every table that holds what a project has."""
    tables = ("jobs", "sources", "tasks", "clusterings", "clusters", "key_frames", "queries", "uploads")
    with database.transaction() as connection:
        counted = [(name, connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()) for name in tables]
        usable = connection.execute(text("SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND name = 'theirs'"))
        return [*counted, ("keys", usable.scalar_one())]


def test_every_address_with_an_id_needs_a_key(standing_client):
    rules = [rule for rule in standing_client.application.url_map.iter_rules() if "<id:" in rule.rule]
    assert rules
    assert not access.PUBLIC & {rule.endpoint for rule in rules}

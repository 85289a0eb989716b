"""Clusterings, clusters, key frames and their pictures over HTTP, on a real Postgres."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from sqlalchemy import text

from shared.errors import ErrorKind

pytestmark = pytest.mark.integration

UNKNOWN = "00000000-0000-4000-8000-000000000000"


def fields(answer) -> list[str]:
    assert answer.content_type == "application/problem+json"
    return [error["field"] for error in answer.json["errors"]]


@pytest.fixture
def job_id(submit, workers) -> str:
    """A finished job of 4 videos with 3 key frames each, in 2 clusters of 6."""
    job_id = submit(4)["id"]
    workers.finish(job_id)
    return job_id


@pytest.fixture
def clustering(client, job_id) -> dict:
    return client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]


@pytest.fixture
def cluster(client, clustering) -> dict:
    return client.get(clustering["links"]["clusters"]).json["clusters"][0]


def test_a_clustering_says_what_was_done_and_how_good_it_is(client, clustering, job_id):
    assert client.get(f"/api/v1/clusterings/{clustering['id']}").json == clustering
    assert (clustering["job_id"], clustering["round"], clustering["model"]) == (job_id, 1, "hog_color")
    assert (clustering["state"], clustering["asked"], clustering["complete"]) == ("succeeded", False, True)
    assert (clustering["key_frames"], clustering["n_clusters_used"], clustering["sizes"]) == (12, 2, [6, 6])
    assert (clustering["inertia"], clustering["silhouette"], clustering["noise"]) == (1.5, 0.5, 0)
    assert (clustering["notes"], clustering["error"], clustering["seed"]) == (["a note"], None, 0)
    assert clustering["settings"]["algorithm"] == "kmeans"


def test_another_clustering_can_be_asked_for_without_changing_the_job(client, job_id, workers):
    body = {"algorithm": "hierarchical", "n_clusters": 3, "seed": 7, "scaling": "l2"}
    answer = client.post(f"/api/v1/jobs/{job_id}/clusterings", json=body)
    asked = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/api/v1/clusterings/{asked['id']}"
    assert (asked["state"], asked["asked"], asked["model"]) == ("queued", True, "hog_color")
    assert body.items() <= asked["settings"].items()
    assert (asked["sizes"], asked["key_frames"], asked["complete"]) == ([], None, None)
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"
    workers.cluster(job_id, n_clusters=3)
    listed = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    assert [(c["id"] == asked["id"], c["sizes"]) for c in listed] == [(True, [4, 4, 4]), (False, [6, 6])]
    assert client.get(f"/api/v1/jobs/{job_id}").json["progress"]["clustering"]["total"] == 1


def test_a_clustering_can_be_asked_for_before_there_is_anything_and_says_why_it_failed(client, submit, workers):
    job_id = submit(1)["id"]
    asked = client.post(f"/api/v1/jobs/{job_id}/clusterings", json={}).json
    workers.fail(job_id, ErrorKind.NO_VECTORS, "there are no vectors of hog_color in this job", queue="clustering")
    failed = client.get(f"/api/v1/clusterings/{asked['id']}").json
    assert failed["state"] == "failed"
    assert failed["error"] == {"kind": "no_vectors", "message": "there are no vectors of hog_color in this job"}
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "queued"


def test_the_same_clustering_asked_for_twice_under_one_idempotency_key_is_one(client, job_id):
    address, headers = f"/api/v1/jobs/{job_id}/clusterings", {"Idempotency-Key": "again"}
    ids = {client.post(address, json={"n_clusters": 3}, headers=headers).json["id"] for _ in range(2)}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"n_clusters": 0}, ["n_clusters"]),
        ({"n_clusters": "many"}, ["n_clusters"]),
        ({"algorithm": "magic"}, ["algorithm"]),
        ({"algorithm": 3}, ["algorithm"]),
        ({"algorithm": "hdbscan", "n_clusters": 3}, ["n_clusters"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": 1.5}, ["seed"]),
        ({"scaling": []}, ["scaling"]),
        ({"model": "tiny"}, ["model"]),
        ([], ["body"]),
    ],
)
def test_settings_that_cannot_be_used_are_named(standing_client, standing_job_id, body, named):
    answer = standing_client.post(f"/api/v1/jobs/{standing_job_id}/clusterings", json=body)
    assert (answer.status_code, fields(answer)) == (422, named)


def test_the_model_has_to_be_named_when_the_job_has_several(client, submit):
    job_id = submit(1, models=["hog_color", "tiny"])["id"]
    answer = client.post(f"/api/v1/jobs/{job_id}/clusterings", json={"n_clusters": 3})
    assert (answer.status_code, fields(answer)) == (422, ["model"])
    answer = client.post(f"/api/v1/jobs/{job_id}/clusterings", json={"n_clusters": 3, "model": "tiny"})
    assert (answer.status_code, answer.json["model"]) == (202, "tiny")


def test_clusters_show_their_medoid_and_what_is_nearest_their_centroid(client, clustering):
    page = client.get(clustering["links"]["clusters"]).json
    assert [c["label"] for c in page["clusters"]] == [0, 1]
    cluster = page["clusters"][0]
    assert client.get(f"/api/v1/clusters/{cluster['id']}").json == cluster
    assert (cluster["size"], cluster["videos"], cluster["video_share"]) == (6, 1, 0.25)
    assert cluster["medoid"]["id"] in [key_frame["id"] for key_frame in cluster["nearest"]]
    distances = [key_frame["distance"] for key_frame in cluster["nearest"]]
    assert len(distances) == 6
    assert distances == sorted(distances)


def test_clusters_are_paged_by_label_or_by_size(client, submit, workers):
    job_id = submit(3)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, n_clusters=4)
    address = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]["links"]["clusters"]
    for order, labels in (("label", [0, 1, 2, 3]), ("size", [0, 1, 2, 3])):
        seen, cursor = [], None
        while True:
            query = {"limit": 3, "order": order, **({"cursor": cursor} if cursor else {})}
            page = client.get(address, query_string=query).json
            seen += [(c["label"], c["size"]) for c in page["clusters"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert [label for label, _ in seen] == labels
    assert [size for _, size in seen] == [3, 2, 2, 2]
    assert client.get(address, query_string={"order": "beauty"}).status_code == 422


def test_a_clusters_key_frames_are_paged_nearest_first_without_loss_at_equal_distances(client, cluster):
    seen, cursor = [], None
    while True:
        query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
        page = client.get(cluster["links"]["key_frames"], query_string=query).json
        seen += page["key_frames"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len({key_frame["id"] for key_frame in seen}) == len(seen) == 6
    distances = [key_frame["distance"] for key_frame in seen]
    assert distances == sorted(distances)
    assert len(set(distances)) < 6


def test_noise_is_counted_and_belongs_to_no_cluster(client, submit, workers):
    job_id = submit(2)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, noise=2)
    clustering = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]
    assert (clustering["noise"], clustering["sizes"]) == (2, [2, 2])


def test_a_key_frame_says_where_and_when_it_was_seen(client, cluster, job_id):
    first = min(
        client.get(cluster["links"]["key_frames"]).json["key_frames"], key=lambda key_frame: key_frame["frame_index"]
    )
    key_frame = client.get(f"/api/v1/key-frames/{first['id']}").json
    assert (key_frame["frame_index"], key_frame["time_s"], key_frame["width_px"]) == (0, 0.0, 64)
    assert key_frame["shot"] == {"index": 0, "start_s": 0.0, "end_s": 10.0}
    assert key_frame["repeats"] == [[0.5, 0.75]]
    (source,) = key_frame["sources"]
    assert source["job_id"] == job_id
    assert source["link"] == source["url"] + "#t=0.000"
    assert key_frame["image"] == f"/api/v1/key-frames/{first['id']}/image"


def test_a_key_frames_picture_is_kept_by_browsers_for_ever(client, cluster):
    key_frame = cluster["medoid"]
    sizes = []
    for address in (key_frame["image"], key_frame["small_image"]):
        answer = client.get(address)
        assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "private, max-age=31536000, immutable"
        assert client.get(address, headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
        sizes.append(Image.open(io.BytesIO(answer.data)).width)
    assert sizes == [64, 16]
    assert client.get(key_frame["image"] + "?size=huge").status_code == 422


def test_a_picture_that_is_gone_is_not_found(client, cluster, service):
    for name, *_ in list(service.blobs.entries("")):
        service.blobs.delete([name])
    answer = client.get(cluster["medoid"]["image"])
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize(
    "address",
    [
        "clusterings/{}",
        "clusterings/{}/clusters",
        "clusters/{}",
        "clusters/{}/key-frames",
        "key-frames/{}",
        "key-frames/{}/image",
        "searches/{}",
        "jobs/{}/clusterings",
    ],
)
def test_what_is_unknown_is_not_found(standing_client, address):
    answer = standing_client.get("/api/v1/" + address.format(UNKNOWN))
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_what_belongs_to_another_project_is_not_found(client, clustering, cluster, job_id, database):
    addresses = [
        f"/api/v1/jobs/{job_id}",
        clustering["links"]["self"],
        clustering["links"]["clusters"],
        cluster["links"]["self"],
        cluster["links"]["key_frames"],
        f"/api/v1/key-frames/{cluster['medoid']['id']}",
        cluster["medoid"]["image"],
    ]
    with database.transaction() as connection:
        project_id = connection.execute(text("INSERT INTO projects (name) VALUES ('other') RETURNING id")).scalar()
        for table in ("jobs", "videos"):
            connection.execute(text(f"UPDATE {table} SET project_id = :project"), {"project": project_id})
    assert {client.get(address).status_code for address in addresses} == {404}
    assert client.get("/api/v1/jobs").json["jobs"] == []
    search = client.post("/api/v1/search", json={"key_frame_id": cluster["medoid"]["id"]})
    assert search.status_code == 404

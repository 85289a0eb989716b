"""Clusterings, clusters, key frames and their pictures over HTTP, on a real Postgres."""

from __future__ import annotations

import io
from itertools import pairwise

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


@pytest.fixture
def noisy(client, submit, workers) -> dict:
    """A clustering of 4 videos with 3 key frames each: 7 in noise, 3 and 2 in clusters."""
    job_id = submit(4)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    workers.cluster(job_id, noise=7)
    return client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"][0]


@pytest.mark.parametrize("order", ["label", "size"])
def test_noise_comes_last_of_the_clusters(client, noisy, order):
    first = client.get(noisy["links"]["clusters"], query_string={"limit": 2, "order": order}).json
    assert [c["label"] for c in first["clusters"]] == ([0, 1] if order == "label" else [1, 0])
    query = {"limit": 2, "order": order, "cursor": first["next_cursor"]}
    last = client.get(noisy["links"]["clusters"], query_string=query).json
    [noise] = last["clusters"]
    assert last["next_cursor"] is None
    assert (noise["label"], noise["size"], noise["videos"], noise["video_share"]) == (-1, 7, 3, 0.75)
    assert (noise["medoid"], noise["mean_distance"]) == (None, None)
    assert len(noise["nearest"]) == 7
    assert noise["links"]["self"] == noisy["links"]["noise"]
    assert client.get(noise["links"]["self"]).json == noise


def test_every_key_frame_is_in_a_cluster_or_in_the_noise(client, noisy):
    by_label = {}
    for cluster in client.get(noisy["links"]["clusters"]).json["clusters"]:
        seen, cursor = [], None
        while True:
            query = {"limit": 2, **({"cursor": cursor} if cursor else {})}
            page = client.get(cluster["links"]["key_frames"], query_string=query).json
            seen += page["key_frames"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        by_label[cluster["label"]] = seen
    assert {label: len(seen) for label, seen in by_label.items()} == {0: 2, 1: 3, -1: 7}
    assert len({frame["id"] for seen in by_label.values() for frame in seen}) == 12
    noise = by_label[-1]
    assert {frame["distance"] for frame in noise} == {None}
    videos = [frame["video_id"] for frame in noise]
    assert all(videos.index(video) + videos.count(video) > i for i, video in enumerate(videos)), "video by video"
    for before, after in pairwise(noise):
        assert before["video_id"] != after["video_id"] or before["time_s"] < after["time_s"]


def test_a_cursor_of_a_cluster_is_none_of_the_noise(client, noisy):
    clusters = client.get(noisy["links"]["clusters"]).json["clusters"]
    cursors = [client.get(c["links"]["key_frames"], query_string={"limit": 1}).json["next_cursor"] for c in clusters]
    for cluster, cursor in zip(clusters, reversed(cursors), strict=True):
        answer = client.get(cluster["links"]["key_frames"], query_string={"cursor": cursor})
        assert answer.status_code == (422 if cluster["label"] in (-1, 0) else 200)


def test_a_clustering_without_noise_has_none(client, clustering):
    assert "noise" not in clustering["links"]
    assert client.get(f"/api/v1/clusters/{clustering['id']}").status_code == 404


def test_a_key_frame_names_its_clusters_also_noise(client, noisy):
    for cluster in client.get(noisy["links"]["clusters"]).json["clusters"]:
        frame = cluster["nearest"][0]
        [found] = client.get(f"/api/v1/key-frames/{frame['id']}/clusters").json["clusters"]
        assert (found["cluster_id"], found["label"], found["size"]) == (
            cluster["id"],
            cluster["label"],
            cluster["size"],
        )
        assert (found["clustering_id"], found["title"]) == (noisy["id"], noisy["title"])
        assert client.get(found["links"]["cluster"]).json["id"] == cluster["id"]


# --- Names, copies, deletion


def test_a_clustering_is_named_and_its_name_is_cleaned(client, clustering):
    assert (clustering["name"], clustering["title"]) == ("", "hog_color, kmeans, 2 clusters")
    address = clustering["links"]["self"]
    answer = client.patch(address, json={"name": "  by\u202elook \x1b[2J"})
    assert (answer.status_code, answer.json["name"]) == (200, client.get(address).json["name"])
    assert answer.json["name"] == "bylook [2J" or "\x1b" not in answer.json["name"]
    assert client.patch(address, json={"name": ""}).json["name"] == ""
    for body in ({}, {"name": 3}, {"name": "x" * 201}, {"name": "a", "seed": 1}):
        assert client.patch(address, json=body).status_code == 422, body
    assert client.patch(f"/api/v1/clusterings/{UNKNOWN}", json={"name": "a"}).status_code == 404


def test_a_clustering_that_is_there_already_is_not_made_again(client, job_id, clustering, workers):
    address = f"/api/v1/jobs/{job_id}/clusterings"
    same = client.post(address, json={})
    assert (same.status_code, same.json["id"], same.json["state"]) == (202, clustering["id"], "succeeded")
    other = client.post(address, json={"seed": 7, "name": "lucky"}).json
    assert (other["name"], other["title"]) == ("lucky", "hog_color, kmeans, seed 7")
    assert client.post(address, json={"seed": 7}).json["id"] == other["id"], "it is still to run"
    workers.cluster(job_id)
    assert client.post(address, json={"seed": 7}).json["id"] == other["id"]
    assert len(client.get(address).json["clusterings"]) == 2
    client.post(f"/api/v1/jobs/{job_id}/sources", json={"videos": ["https://example.org/more.mp4"]})
    workers.finish(job_id)
    assert client.post(address, json={"seed": 7}).json["id"] != other["id"], "there is more to cluster"


def test_a_failed_clustering_is_made_again_when_it_is_asked_for_again(client, job_id, workers):
    address = f"/api/v1/jobs/{job_id}/clusterings"
    first = client.post(address, json={"seed": 7}).json
    workers.fail(job_id, ErrorKind.BAD_VECTORS, "NaN", queue="clustering")
    assert client.post(address, json={"seed": 7}).json["id"] != first["id"]


def test_a_clustering_is_deleted_and_leaves_the_job_and_its_key_frames(client, job_id, clustering, cluster, workers):
    assert client.delete(clustering["links"]["self"]).status_code == 204
    for address in (clustering["links"]["self"], cluster["links"]["self"]):
        assert client.get(address).status_code == 404
    assert client.delete(clustering["links"]["self"]).status_code == 404
    assert client.get(f"/api/v1/key-frames/{cluster['medoid']['id']}").status_code == 200
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"
    asked = client.post(f"/api/v1/jobs/{job_id}/clusterings", json={}).json
    assert client.delete(asked["links"]["self"]).status_code == 204, "one that a person asked for, though it is open"
    assert client.get(f"/api/v1/jobs/{job_id}").json["state"] == "succeeded"


def test_a_clustering_that_the_job_is_making_is_not_deleted(client, submit, workers):
    job_id = submit(1)["id"]
    workers.extract(job_id)
    workers.embed(job_id)
    [clustering] = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    answer = client.delete(clustering["links"]["self"])
    assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
    client.post(f"/api/v1/jobs/{job_id}/cancel")
    assert client.delete(clustering["links"]["self"]).status_code == 204


def test_a_clustering_of_a_job_that_goes_on_is_not_deleted_to_come_back(client, submit, workers):
    job_id = submit(1, models=["hog_color", "tiny"])["id"]
    workers.extract(job_id)
    workers.embed(job_id, model="hog_color")
    workers.cluster(job_id)
    [clustering] = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    assert (clustering["state"], client.get(f"/api/v1/jobs/{job_id}").json["state"]) == ("succeeded", "running")
    answer = client.delete(clustering["links"]["self"])
    assert (answer.status_code, "still wants" in answer.json["detail"]) == (409, True)
    workers.embed(job_id)
    workers.cluster(job_id)
    assert client.delete(clustering["links"]["self"]).status_code == 204
    [other] = client.get(f"/api/v1/jobs/{job_id}/clusterings").json["clusterings"]
    assert (other["model"], client.get(f"/api/v1/jobs/{job_id}").json["state"]) == ("tiny", "succeeded")


def test_readers_neither_name_nor_delete(with_key):
    reader = with_key("reader")
    address = f"/api/v1/clusterings/{UNKNOWN}"
    assert reader.patch(address, json={"name": "a"}).status_code == 403
    assert reader.delete(address).status_code == 403


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

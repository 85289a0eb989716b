"""The vectors of a job in a fixed order, and what came of them."""

from __future__ import annotations

import numpy as np

from services.clustering import store
from services.clustering.clusterer import ClusteringSettings, cluster
from shared import tasks
from shared.vectors import from_binary


def embedded_job(rows, *sha256s: str, models=("colour",)) -> str:
    """A job with a source for each of the bytes, up to its clusterings."""
    job_id = rows.job(sources=len(sha256s), models=models)
    claims = rows.claim(*rows.task_ids("keyframes", job_id))
    positions = dict(rows.all("SELECT id, position FROM sources WHERE job_id = :id", id=job_id))
    claims.sort(key=lambda claim: positions[claim.source_id], reverse=True)  # ended in another order than submitted
    for claim, sha256 in zip(claims, reversed(sha256s), strict=True):
        rows.cut_up(claim, sha256=sha256)
    for claim in rows.claim(*rows.task_ids("embedding", job_id)):
        rows.embed(claim)
    return job_id


def load(database, claim):
    with database.transaction() as connection:
        return store.load(connection, claim)


def test_rows_are_ordered_by_first_source_then_frame_and_no_video_occurs_twice(rows, database):
    job_id = embedded_job(rows, "b", "a", "b", "c")
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    vectors = load(database, claim)
    expected = rows.all(
        """
        SELECT k.id, v.sha256, k.frame_index, vector_send(e.vector) AS vector FROM key_frames k
        JOIN extractions x ON x.id = k.extraction_id JOIN videos v ON v.id = x.video_id
        JOIN embeddings e ON e.key_frame_id = k.id
        ORDER BY array_position(ARRAY['b', 'a', 'c'], v.sha256), k.frame_index"""
    )
    assert len(expected) == 9
    assert vectors.key_frame_ids == tuple(row.id for row in expected)
    assert np.array_equal(vectors.X, np.stack([from_binary(row.vector) for row in expected]))
    assert vectors.X.dtype == np.float32
    _, numbers = np.unique(vectors.videos, return_inverse=True)
    assert list(numbers) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert vectors.complete


def test_vectors_of_other_models_and_other_jobs_are_left_out(rows, database):
    embedded_job(rows, "theirs")
    job_id = embedded_job(rows, "ours", models=["colour", "shape"])
    for claim in rows.claim(*rows.task_ids("clustering", job_id)):
        assert load(database, claim).X.shape == (3, 4)


def test_a_clustering_asked_for_while_sources_are_open_knows_that_it_is_not_complete(rows, database):
    job_id = embedded_job(rows, "a")
    rows.add_sources(job_id)
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    vectors = load(database, claim)
    assert (len(vectors.key_frame_ids), vectors.complete) == (3, False)


def test_clusters_and_assignments_are_saved_as_they_were_found(rows, database):
    job_id = embedded_job(rows, "a", "b")
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    vectors = load(database, claim)
    found = cluster(vectors.X, ClusteringSettings(parameters={"n_clusters": 2}), groups=vectors.videos)
    rows.save(claim, store, found, vectors)
    [row] = rows.all("SELECT key_frame_count, complete, n_clusters_asked, n_clusters_used, seed FROM clusterings")
    assert row == (6, True, "2", 2, 0)
    labels = dict(rows.all("SELECT key_frame_id, label FROM assignments"))
    assert [labels[id_] for id_ in vectors.key_frame_ids] == list(found.labels)
    saved = rows.all(
        "SELECT label, size, video_count, medoid_id, vector_send(centroid) AS c FROM clusters ORDER BY label"
    )
    for row, expected in zip(saved, found.clusters, strict=True):
        assert (row.label, row.size, row.video_count) == (expected.label, expected.size, expected.videos)
        assert row.medoid_id == vectors.key_frame_ids[expected.medoid_index]
        assert np.array_equal(from_binary(row.c), expected.centroid)
    assert rows.job_state(job_id) == "succeeded"


def test_noise_has_no_distance_and_no_cluster(rows, database):
    job_id = embedded_job(rows, "a", "b")
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    vectors = load(database, claim)
    found = cluster(vectors.X, ClusteringSettings("hdbscan", {"min_cluster_size": 6}), groups=vectors.videos)
    assert found.noise == 6, "six random vectors are no cluster"
    rows.save(claim, store, found, vectors)
    assert rows.all("SELECT DISTINCT label, distance FROM assignments") == [(-1, None)]
    assert rows.one("SELECT count(*) FROM clusters") == 0


def test_a_late_worker_saves_no_cluster(rows, database):
    job_id = embedded_job(rows, "a")
    [claim] = rows.claim(*rows.task_ids("clustering", job_id))
    with database.transaction() as connection:
        tasks.cancel_job(connection, job_id)
    assert rows.cluster(claim) is False
    assert rows.one("SELECT count(*) FROM assignments") == 0


def test_every_round_keeps_its_own_clusters(rows):
    job_id = embedded_job(rows, "a")
    rows.cluster(*rows.claim(*rows.task_ids("clustering", job_id)))
    rows.add_sources(job_id)
    rows.cut_up(*rows.claim(*rows.task_ids("keyframes", job_id)), sha256="another")
    for claim in rows.claim(*rows.task_ids("embedding", job_id)):
        rows.embed(claim)
    rows.cluster(*rows.claim(*rows.task_ids("clustering", job_id)))
    seen = rows.all("SELECT round, key_frame_count FROM clusterings ORDER BY round")
    assert seen == [(1, 3), (2, 6)]

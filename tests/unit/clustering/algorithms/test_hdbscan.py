from __future__ import annotations

import numpy as np

from services.clustering.clusterer import ClusteringSettings, cluster


def test_what_belongs_to_no_group_is_noise(blobs):
    X, _ = blobs(100, 8, 2, spread=0.02)
    X[17] = 100
    clustering = cluster(X, ClusteringSettings("hdbscan", scaling="none"))
    assert np.flatnonzero(clustering.labels == -1).tolist() == [17]
    assert (clustering.n_clusters_used, clustering.noise) == (2, 1)
    assert np.isnan(clustering.distances[17])
    assert sum(cluster.share for cluster in clustering.clusters) == 0.99


def test_fewer_vectors_than_a_cluster_needs_are_all_noise_and_that_is_said():
    clustering = cluster(np.eye(4, dtype=np.float32), ClusteringSettings("hdbscan", {"min_cluster_size": 5}))
    assert clustering.labels.tolist() == [-1] * 4
    assert clustering.clusters == ()
    assert clustering.silhouette is None
    assert clustering.inertia == 0.0
    assert "every vector is noise" in clustering.notes[0]


def test_more_neighbours_asked_for_than_vectors_are_all_noise():
    X = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    assert set(cluster(X, ClusteringSettings("hdbscan", {"min_samples": 11})).labels) == {-1}

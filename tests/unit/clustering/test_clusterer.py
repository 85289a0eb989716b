from __future__ import annotations

import numpy as np
import pytest

from services.clustering.clusterer import ClusteringSettings, cluster, sweep
from shared.errors import ErrorKind, PermanentError


def kmeans(n_clusters=None, **others):
    return ClusteringSettings("kmeans", {} if n_clusters is None else {"n_clusters": n_clusters}, **others)


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (8, 1), (9, 2), (80, 10), (900, 100)])
def test_left_out_n_clusters_is_an_eighth_of_the_vectors_and_at_most_100(n, expected):
    X = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    clustering = cluster(X, kmeans())
    assert clustering.n_clusters_used == expected
    assert clustering.n_clusters_asked is None


def test_asked_and_used_are_both_told_when_vectors_repeat():
    X = np.tile(np.eye(7, dtype=np.float32), (5, 1))
    clustering = cluster(X, kmeans(20))
    assert (clustering.n_clusters_asked, clustering.n_clusters_used) == (20, 7)
    assert clustering.notes == ("20 clusters were asked for and 7 used, because only 7 of the vectors are distinct.",)
    assert clustering.inertia == pytest.approx(0)


def test_auto_finds_the_number_of_separate_groups_and_keeps_the_evidence(blobs):
    X, _ = blobs(300, 16, 13, spread=0.1)
    clustering = cluster(X, kmeans("auto"))
    assert clustering.n_clusters_used == 13
    tried = {row.n_clusters: row for row in clustering.evidence}
    assert tried[13].silhouette == max(row.silhouette for row in clustering.evidence)
    assert tried[2].inertia > tried[13].inertia > tried[100].inertia
    assert "13 had the best silhouette" in clustering.notes[0]


def test_auto_on_too_few_vectors_says_that_the_default_was_used():
    clustering = cluster(np.array([[0, 1], [1, 0]], np.float32), kmeans("auto"))
    assert clustering.n_clusters_used == 1
    assert "default number" in clustering.notes[0]


def test_everything_said_of_a_cluster_can_be_checked_by_hand():
    X = np.array([[0, 0], [0, 2], [0, 7], [50, 1], [50, 3]], np.float32)
    clustering = cluster(X, kmeans(2, scaling="none"), groups=np.array([4, 4, 9, 9, 9]))
    assert clustering.labels.tolist() == [0, 0, 0, 1, 1]
    first, second = clustering.clusters
    assert (first.label, first.size, first.share, first.videos, first.medoid_index) == (0, 3, 0.6, 2, 1)
    assert (second.label, second.size, second.share, second.videos) == (1, 2, 0.4, 1)
    assert first.centroid.tolist() == first.scaled_centroid.tolist() == [0, 3]
    assert clustering.distances.tolist() == [3, 1, 4, 1, 1]
    assert clustering.inertia == 9 + 1 + 16 + 1 + 1
    assert clustering.silhouette is not None and clustering.silhouette > 0.85
    assert clustering.noise == 0


def test_centroids_are_given_in_both_spaces(blobs):
    X, _ = blobs(100, 10, 3, spread=0.1)
    clustering = cluster(X, kmeans(3, scaling="pca", pca_dimensions=2))
    for found in clustering.clusters:
        np.testing.assert_allclose(found.centroid, X[clustering.labels == found.label].mean(axis=0), atol=1e-5)
        assert found.scaled_centroid.shape == (2,)


def test_equally_large_clusters_are_numbered_by_their_first_member():
    X = np.array([[9, 0], [0, 0], [9, 0.1], [0, 0.1], [5, 5], [5, 5.1]], np.float32)
    assert cluster(X, kmeans(3, scaling="none")).labels.tolist() == [0, 1, 0, 1, 2, 2]


def test_without_groups_every_row_is_a_video_of_its_own():
    clustering = cluster(np.eye(3, dtype=np.float32), kmeans(1))
    assert clustering.clusters[0].videos == 3


def test_any_real_dtype_is_taken_and_clustered_as_float32(blobs):
    X, _ = blobs(100, 8, 4, spread=1.0)
    as_float64 = cluster(X.astype(np.float64), kmeans(4))
    assert np.array_equal(as_float64.labels, cluster(X, kmeans(4)).labels)
    assert as_float64.distances.dtype == np.float32


def test_bad_vectors_are_named_up_to_a_few():
    X = np.zeros((300, 2), np.float64)
    X[10:20] = np.nan
    X[200] = 1e300
    with pytest.raises(PermanentError, match=r"^11 of 300 vectors .* \(rows 10, 11, 12, 13, 14, …, ") as refusal:
        cluster(X, kmeans())
    assert refusal.value.kind == ErrorKind.BAD_VECTORS


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (ClusteringSettings("k_means"), "There is no clustering algorithm 'k_means'; choose one of hdbscan, "),
        (ClusteringSettings("kmeans", {"k": 3}), "kmeans: it has no parameter 'k'; its parameters are: n_clusters, "),
        (ClusteringSettings("kmeans", {"n_clusters": 0}), "kmeans: n_clusters is 0; it takes a whole number from 1"),
        (ClusteringSettings("kmeans", {"n_clusters": True}), "kmeans: n_clusters is true; it takes a whole number"),
        (ClusteringSettings("hdbscan", {"min_cluster_size": 1}), "hdbscan: min_cluster_size is 1; it takes .* from 2"),
    ],
)
def test_wrong_parameters_are_refused_in_a_sentence(settings, sentence):
    with pytest.raises(PermanentError, match=f"^{sentence}") as refusal:
        cluster(np.eye(3, dtype=np.float32), settings)
    assert refusal.value.kind == ErrorKind.BAD_PARAMETERS


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("scaling", "minmax"), ("pca_dimensions", 0), ("seed", -1), ("seed", 2**32), ("seed", 1.5)],
)
def test_wrong_settings_are_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} is .*; it takes "):
        ClusteringSettings(**{name: wrong})


@pytest.mark.parametrize("shape", [(4,), (4, 0), (2, 2, 2)])
def test_vectors_of_another_shape_are_a_programming_mistake(shape):
    with pytest.raises(ValueError, match="shape"):
        cluster(np.zeros(shape, np.float32), kmeans())


def test_groups_of_another_length_are_a_programming_mistake():
    with pytest.raises(ValueError, match="groups"):
        cluster(np.eye(3, dtype=np.float32), kmeans(), groups=np.array([1, 2]))


def test_a_sweep_tries_the_numbers_asked_for_and_leaves_out_the_impossible(blobs):
    X, _ = blobs(40, 4, 5, spread=0.05)
    assert [row.n_clusters for row in sweep(X, kmeans(), [9, 5, 5, 41, 1])] == [1, 5, 9]


def test_an_algorithm_that_finds_the_number_by_itself_cannot_be_swept():
    with pytest.raises(PermanentError, match="hdbscan finds the number of clusters by itself"):
        sweep(np.eye(3, dtype=np.float32), ClusteringSettings("hdbscan"))

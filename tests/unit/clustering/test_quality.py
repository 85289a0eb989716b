from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from services.clustering import quality
from services.clustering.quality import agreement, inertia, silhouette


def test_silhouette_is_scikit_learns_without_the_noise(blobs):
    X, labels = blobs(200, 4, 3, spread=0.5)
    labels[::10] = -1
    kept = labels >= 0
    expected = silhouette_score(X[kept], labels[kept])
    assert silhouette(X, labels, seed=0) == pytest.approx(expected)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [-1, -1, -1], [0, 1, -1]])
def test_silhouette_is_none_where_it_is_not_defined(labels):
    assert silhouette(np.eye(3, dtype=np.float32), np.array(labels), seed=0) is None


def test_silhouette_of_many_is_estimated_from_a_sample_that_follows_the_seed(blobs, monkeypatch):
    X, labels = blobs(3000, 4, 3, spread=0.5)
    exact = silhouette(X, labels, seed=0)
    monkeypatch.setattr(quality, "SILHOUETTE_ROWS", 1000)
    assert silhouette(X, labels, seed=0) == pytest.approx(exact, abs=0.03)
    assert silhouette(X, labels, seed=1) == silhouette(X, labels, seed=1)


def test_inertia_sums_squared_distances_to_the_own_centroid():
    X = np.array([[0], [2], [10], [10], [99]], np.float32)
    assert inertia(X, np.array([0, 0, 1, 1, -1])) == 2.0


def test_the_same_grouping_under_other_names_agrees_fully():
    perfect = agreement(np.array([2, 2, 0, 1]), ["cat", "cat", "dog", "bee"])
    assert (perfect.purity, perfect.nmi, perfect.ari) == (1.0, pytest.approx(1.0), 1.0)


def test_purity_counts_the_commonest_class_of_each_cluster():
    assert agreement(np.array([0, 0, 0, 1, 1, -1]), ["a", "a", "b", "b", "b", "a"]).purity == pytest.approx(5 / 6)


def test_one_cluster_for_everything_says_nothing():
    useless = agreement(np.zeros(4, np.int64), [0, 0, 1, 1])
    assert (useless.purity, useless.nmi, useless.ari) == (0.5, 0.0, 0.0)

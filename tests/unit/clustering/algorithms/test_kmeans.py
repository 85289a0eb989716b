from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.preprocessing import StandardScaler

from services.clustering.algorithms import kmeans
from services.clustering.clusterer import ClusteringSettings, cluster


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("n", [30, 400])
def test_equals_scikit_learn_by_hand_with_the_same_seed(n, seed):
    # Without any structure to find: here the least difference in the arithmetic would lead to other clusters.
    X = np.random.default_rng(n).normal(3, 5, size=(n, 64)).astype(np.float32)
    by_hand = KMeans(20, n_init=10, random_state=seed).fit_predict(StandardScaler().fit_transform(X))
    ours = cluster(X, ClusteringSettings("kmeans", {"n_clusters": 20}, "standard", seed=seed))
    assert adjusted_rand_score(by_hand, ours.labels) == 1.0


def test_inertia_is_that_of_scikit_learn(blobs):
    X, _ = blobs(300, 16, 5, spread=0.3)
    by_hand = KMeans(5, n_init=10, random_state=0).fit(StandardScaler().fit_transform(X))
    assert cluster(X, ClusteringSettings("kmeans", {"n_clusters": 5}, "standard")).inertia == pytest.approx(
        by_hand.inertia_, 1e-5
    )


def test_ten_starts_up_to_many_vectors_and_one_beyond(monkeypatch):
    X = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)

    def labels(n_init):
        return kmeans.fit(X, kmeans.Parameters(n_clusters=12, n_init=n_init), seed=0).tolist()

    assert labels(1) != labels(10)
    monkeypatch.setattr(kmeans, "MANY_VECTORS", 300)
    assert labels(None) == labels(10)
    monkeypatch.setattr(kmeans, "MANY_VECTORS", 299)
    assert labels(None) == labels(1)


def test_vectors_too_near_for_float32_give_fewer_clusters_and_no_warning():
    X = np.ones((6, 2), np.float32)
    X[1] = np.nextafter(X[0], 2)
    X[2] = 5
    clustering = cluster(X, ClusteringSettings("kmeans", {"n_clusters": 3}, scaling="none"))
    assert 2 <= clustering.n_clusters_used <= 3
    assert clustering.labels[2] not in clustering.labels[[0, 1]]

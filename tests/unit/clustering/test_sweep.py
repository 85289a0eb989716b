from __future__ import annotations

import numpy as np
import pytest

from services.clustering import sweep
from services.clustering.sweep import CANDIDATES, Evidence, best, count_distinct, default_n_clusters, sweep_n_clusters


def chunks(X, n_clusters):
    """A stand-in for an algorithm: cuts sorted one-dimensional vectors at the widest gaps."""
    order = X[:, 0].argsort()
    gaps = np.diff(X[order, 0])
    cuts = np.sort(gaps.argsort()[::-1][: n_clusters - 1]) + 1
    labels = np.empty(len(X), np.int64)
    labels[order] = np.searchsorted(cuts, np.arange(len(X)), side="right")
    return labels


def groups_on_a_line(groups, rows_each=10):
    X = np.repeat(np.arange(groups, dtype=np.float32), rows_each)
    return (X + np.random.default_rng(0).uniform(-0.05, 0.05, size=X.shape).astype(np.float32))[:, None]


@pytest.mark.parametrize("groups", [2, 11, 20, 29, 62])
def test_the_number_of_groups_has_the_best_silhouette_also_between_the_candidates(groups):
    evidence = sweep_n_clusters(groups_on_a_line(groups), chunks, None, seed=0)
    assert best(evidence).n_clusters == groups
    numbers = [row.n_clusters for row in evidence]
    assert numbers == sorted(set(numbers))
    assert set(CANDIDATES) <= set(numbers) | set(range(groups * 10 + 1, 101))


def test_many_vectors_are_swept_on_a_sample(monkeypatch):
    monkeypatch.setattr(sweep, "SWEEP_ROWS", 50)
    seen = []
    sweep_n_clusters(groups_on_a_line(20), lambda X, k: seen.append(len(X)) or chunks(X, k), [2, 3], seed=0)
    assert seen == [50, 50]


def test_the_fewest_clusters_win_a_tie_and_the_undefined_is_passed_over():
    rows = [Evidence(1, 9.0, None), Evidence(2, 5.0, 0.5), Evidence(3, 4.0, 0.5)]
    assert best(rows) is rows[1]
    assert best(rows[:1]) is None
    assert best([]) is None


def test_distinct_vectors_are_counted_up_to_a_limit():
    X = np.array([[0.0, 1], [-0.0, 1], [2, 2], [3, 3]], np.float32)
    assert count_distinct(X, at_most=4) == 3
    assert count_distinct(X, at_most=2) == 2


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (8, 1), (9, 2), (799, 100), (50_000, 100)])
def test_the_default_is_eight_vectors_to_a_cluster(n, expected):
    assert default_n_clusters(n) == expected

from __future__ import annotations

import numpy as np
import pytest

from services.clustering import geometry
from services.clustering.geometry import distances_to, medoid, members_by_label, sample_rows


def test_members_are_listed_per_cluster_without_noise():
    members = members_by_label(np.array([1, -1, 0, 1, 0]))
    assert [rows.tolist() for rows in members] == [[2, 4], [0, 3]]
    assert members_by_label(np.array([-1, -1])) == []


def test_the_medoid_has_the_least_total_distance_and_is_not_the_nearest_to_the_centroid():
    X = np.array([[0], [1], [2], [3], [100]], np.float32)
    nearest_to_centroid = int(distances_to(X.mean(axis=0), X).argmin())
    assert (medoid(X, seed=0), nearest_to_centroid) == (2, 3)


@pytest.mark.parametrize("offset", [0, 1000])
def test_the_medoid_is_that_of_a_computation_with_all_pairs_also_far_from_the_origin(offset):
    X = (np.random.default_rng(0).normal(size=(1500, 5)) + offset).astype(np.float32)
    totals = np.linalg.norm(X[:, None].astype(np.float64) - X[None], axis=2).sum(axis=1)
    assert totals[medoid(X, seed=0)] == pytest.approx(totals.min(), rel=1e-6)


def test_the_medoid_of_a_large_cluster_is_estimated_from_a_sample(monkeypatch):
    monkeypatch.setattr(geometry, "MEDOID_MEMBERS", 100)
    X = np.random.default_rng(0).normal(size=(1200, 3)).astype(np.float32)
    assert np.linalg.norm(X[medoid(X, seed=0)]) < 0.6  # the nearest tenth
    assert medoid(X, seed=5) == medoid(X, seed=5)


def test_a_sample_is_ascending_without_repeats_and_follows_the_seed():
    assert sample_rows(5, 5, seed=0).tolist() == [0, 1, 2, 3, 4]
    first, again, other = (sample_rows(1000, 50, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    assert np.all(np.diff(first) > 0) and len(first) == 50

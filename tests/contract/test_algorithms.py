"""What every clustering algorithm must do; each file in services/clustering/algorithms is found and tried."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from services.clustering.clusterer import ClusteringSettings, algorithm_names, cluster, load_algorithm
from shared.catalog import SCALINGS
from shared.errors import ErrorKind, PermanentError

pytestmark = pytest.mark.parametrize("name", algorithm_names())


@pytest.fixture(autouse=True)
def one_thread():
    """Threads that wait for each other are many times slower than one where other processes want the cores too."""
    with threadpool_limits(1):
        yield


def takes_n_clusters(name):
    return any(field.name == "n_clusters" for field in dataclasses.fields(load_algorithm(name).Parameters))


def settings(name, n_clusters=None, **others):
    parameters = {"n_clusters": n_clusters} if n_clusters and takes_n_clusters(name) else {}
    return ClusteringSettings(name, parameters, **others)


def three_groups(rows_each=20, dimensions=8):
    """Vectors and truth: three groups, in mixed order, far apart in every dimension, so under every scaling too."""
    rng = np.random.default_rng(7)
    truth = rng.permutation(np.repeat([0, 1, 2], rows_each))
    centres = rng.permuted(np.tile([-5.0, 1.0, 6.0], (dimensions, 1)), axis=1).T
    return (centres[truth] + rng.uniform(-0.1, 0.1, size=(len(truth), dimensions))).astype(np.float32), truth


def same_grouping(a, b):
    return len(set(zip(a, b, strict=True))) == len(set(a)) == len(set(b))


def test_says_what_it_is_without_its_heavy_library(name):
    program = (
        f"import sys, services.clustering.algorithms.{name} as algorithm;"
        "algorithm.Parameters();"
        "assert isinstance(algorithm.TITLE, str) and isinstance(algorithm.SEEDED, bool);"
        "assert algorithm.MAX_VECTORS is None or algorithm.MAX_VECTORS > 0;"
        "assert 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_parameter_has_a_default(name):
    parameters = load_algorithm(name).Parameters
    assert dataclasses.is_dataclass(parameters)
    assert dataclasses.asdict(parameters()).keys() == {field.name for field in dataclasses.fields(parameters)}


def test_a_wrong_parameter_is_refused_by_its_name(name):
    for field in dataclasses.fields(load_algorithm(name).Parameters):
        for wrong in (-1, "many", 2.5):
            with pytest.raises(ValueError, match=f"^{field.name} "):
                load_algorithm(name).Parameters(**{field.name: wrong})


@pytest.mark.parametrize("scaling", SCALINGS)
def test_one_vector_is_one_cluster(name, scaling):
    assert cluster(np.ones((1, 4), np.float32), settings(name, scaling=scaling)).labels.tolist() == [0]


@pytest.mark.parametrize("scaling", SCALINGS)
def test_two_equal_vectors_are_one_cluster(name, scaling):
    assert cluster(np.ones((2, 4), np.float32), settings(name, 2, scaling=scaling)).labels.tolist() == [0, 0]


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_all_equal_vectors_are_one_cluster(name, scaling, value):
    X = np.full((30, 4), value, np.float32)
    assert set(cluster(X, settings(name, 5, scaling=scaling)).labels) == {0}


@pytest.mark.parametrize("scaling", SCALINGS)
def test_fewer_vectors_than_clusters(name, scaling):
    clustering = cluster(np.eye(3, dtype=np.float32), settings(name, 10, scaling=scaling))
    if takes_n_clusters(name):
        assert sorted(clustering.labels) == [0, 1, 2]
        assert "only 3 of the vectors are distinct" in clustering.notes[0]
    else:
        assert len(clustering.labels) == 3


@pytest.mark.parametrize("scaling", SCALINGS)
def test_fewer_distinct_vectors_than_clusters(name, scaling):
    X = np.tile(np.eye(3, dtype=np.float32), (8, 1))
    assert same_grouping(cluster(X, settings(name, 10, scaling=scaling)).labels, np.tile([0, 1, 2], 8))


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_zero_vector_gets_a_label_like_any_other(name, scaling):
    X, _ = three_groups()
    X[5] = 0
    clustering = cluster(X, settings(name, 3, scaling=scaling))
    assert np.isfinite(clustering.distances[clustering.labels >= 0]).all()
    assert all(np.isfinite(cluster.scaled_centroid).all() for cluster in clustering.clusters)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_three_separate_groups_are_recovered_exactly(name, scaling):
    X, truth = three_groups()
    assert same_grouping(cluster(X, settings(name, 3, scaling=scaling)).labels, truth)


def test_three_separate_groups_are_recovered_when_nobody_said_how_many(name):
    X, truth = three_groups()
    assert same_grouping(cluster(X, settings(name, "auto")).labels, truth)


def test_labels_are_contiguous_and_fall_with_size(name):
    X = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    clustering = cluster(X, settings(name, 12))
    assert clustering.labels.dtype == np.int64
    assert set(clustering.labels) - {-1} == set(range(clustering.n_clusters_used))
    sizes = [int((clustering.labels == cluster.label).sum()) for cluster in clustering.clusters]
    assert sizes == sorted(sizes, reverse=True)


def test_the_same_seed_gives_the_same_labels(name):
    X = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    first, second = (cluster(X, settings(name, 20, seed=3)).labels for _ in range(2))
    assert np.array_equal(first, second)


def test_another_seed_matters_only_where_it_is_said_to(name):
    X = np.random.default_rng(1).normal(size=(500, 16)).astype(np.float32)
    first, second = (cluster(X, settings(name, 20, seed=seed)).labels for seed in (3, 4))
    assert np.array_equal(first, second) != load_algorithm(name).SEEDED


def test_the_vectors_are_not_modified(name):
    for scaling in SCALINGS:
        X, _ = three_groups()
        before = X.copy()
        X.flags.writeable = False
        cluster(X, settings(name, 3, scaling=scaling))
        assert np.array_equal(X, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite_are_refused(name, bad):
    X, _ = three_groups()
    X[4, 2] = bad
    with pytest.raises(PermanentError, match="row 4") as refusal:
        cluster(X, settings(name, 3))
    assert refusal.value.kind == ErrorKind.BAD_VECTORS


def test_no_vectors_are_refused(name):
    with pytest.raises(PermanentError) as refusal:
        cluster(np.empty((0, 8), np.float32), settings(name))
    assert refusal.value.kind == ErrorKind.NO_VECTORS


def test_more_vectors_than_it_can_take_are_refused_with_what_to_use_instead(name):
    if load_algorithm(name).MAX_VECTORS is None:
        return
    X = np.zeros((load_algorithm(name).MAX_VECTORS + 1, 1), np.float32)
    with pytest.raises(PermanentError, match="use minibatch_kmeans or kmeans") as refusal:
        cluster(X, settings(name))
    assert refusal.value.kind == ErrorKind.TOO_MANY_VECTORS

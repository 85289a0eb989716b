"""Clusterings are told apart by words."""

from __future__ import annotations

import pytest

from services.api.clustering_words import title
from shared import catalog


@pytest.mark.parametrize(
    ("asked", "used", "words"),
    [
        ({}, None, "m, kmeans"),
        ({}, 1, "m, kmeans, 1 cluster"),
        ({}, 1200, "m, kmeans, 1,200 clusters"),
        ({"n_clusters": 12}, None, "m, kmeans, k 12"),
        ({"n_clusters": 12}, 12, "m, kmeans, 12 clusters as asked"),
        ({"n_clusters": 12}, 9, "m, kmeans, 9 clusters of 12 asked for"),
        ({"n_clusters": "auto"}, None, "m, kmeans, k auto"),
        ({"n_clusters": "auto"}, 9, "m, kmeans, 9 clusters (auto)"),
        ({"seed": 7}, 9, "m, kmeans, 9 clusters, seed 7"),
        ({"n_init": 3}, 9, "m, kmeans, 9 clusters, n init 3"),
        ({"algorithm": "hdbscan"}, 4, "m, hdbscan, 4 clusters"),
        ({"algorithm": "hdbscan", "min_cluster_size": 9}, 4, "m, hdbscan, 4 clusters, min cluster size 9"),
        ({"algorithm": "hdbscan", "allow_single_cluster": True}, 1, "m, hdbscan, 1 cluster, allow single cluster yes"),
    ],
)
def test_a_title_names_what_is_not_usual(asked, used, words):
    assert title("m", catalog.clustering_settings(asked), used) == words


def test_the_scaling_is_named_unless_it_is_the_usual_one_and_its_dimensions_where_they_count():
    usual = catalog.COMMON_CLUSTERING["scaling"]
    for scaling in catalog.SCALINGS:
        words = title("m", catalog.clustering_settings({"scaling": scaling, "pca_dimensions": 8}), 9)
        assert (f"scaling {scaling}" in words) == (scaling != usual)
        assert ("pca dimensions 8" in words) == (scaling == "pca")


def test_an_algorithm_that_is_gone_has_a_title_too():
    assert title("m", {"algorithm": "magic", "seed": 0, "power": 9}, 3) == "m, magic, 3 clusters, power 9"
    assert title("m", {}, None) == "m, kmeans"

"""Clustering against scikit-learn called by hand: the same groups? at what cost? `python -m benchmarks.clustering`.

The cost beside the peer's is that of what Reelmap says besides the labels: medoids, silhouette, distances.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, KMeans, MiniBatchKMeans
from sklearn.preprocessing import StandardScaler

from services.clustering.clusterer import ClusteringSettings, cluster
from services.clustering.quality import agreement

DIMENSIONS = 768
CLUSTERS = 100


def noise(n: int, seed: int) -> NDArray[np.float32]:
    """Vectors without structure: the least difference in arithmetic would lead to other clusters."""
    return np.random.default_rng(seed).standard_normal((n, DIMENSIONS), dtype=np.float32)


def around_centres(n: int, seed: int) -> NDArray[np.float32]:
    """Vectors around CLUSTERS centres, overlapping."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32)
    return centres[rng.integers(CLUSTERS, size=n)] + 2 * noise(n, seed + 1)


def same_as_scikit_learn() -> Iterator[tuple[str, ...]]:
    yield ("vectors", "n", "k", "seed", "ARI")
    for make in (noise, around_centres):
        for n, k in ((100, 13), (600, 20), (2_000, 100)):
            for seed in range(3):
                X = make(n, seed)
                by_hand = KMeans(k, n_init=10, random_state=seed).fit_predict(StandardScaler().fit_transform(X))
                ours = cluster(X, ClusteringSettings("kmeans", {"n_clusters": k}, "standard", seed=seed))
                yield (make.__name__, f"{n:,}", str(k), str(seed), f"{agreement(ours.labels, by_hand).ari:.4f}")


def times(largest: int) -> Iterator[tuple[str, ...]]:
    yield ("algorithm", "n", "Reelmap s", "scikit-learn s", "ARI")
    for n in (size for size in (1_000, 10_000, 50_000) if size <= largest):
        n_init = 10 if n <= 20_000 else 1
        peers = {
            "kmeans": KMeans(CLUSTERS, n_init=n_init, random_state=0),
            "minibatch_kmeans": MiniBatchKMeans(CLUSTERS, n_init=3, random_state=0),
            "hierarchical": AgglomerativeClustering(CLUSTERS),
        }
        X = around_centres(n, seed=0)
        for algorithm, peer in peers.items():
            if algorithm == "hierarchical" and n > 10_000:
                continue
            started_s = time.perf_counter()
            by_hand = peer.fit_predict(StandardScaler().fit_transform(X))
            between_s = time.perf_counter()
            ours = cluster(X, ClusteringSettings(algorithm, {"n_clusters": CLUSTERS}, "standard"))
            ended_s = time.perf_counter()
            ari = agreement(ours.labels, by_hand).ari
            seconds = (f"{ended_s - between_s:.1f}", f"{between_s - started_s:.1f}")
            yield (algorithm, f"{n:,}", *seconds, f"{ari:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--largest", type=int, default=50_000, help="time up to this many vectors")
    largest = parser.parse_args().largest
    print(f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, d={DIMENSIONS}")
    for table in (same_as_scikit_learn(), times(largest)):
        print()
        for row in table:
            print("".join(f"{cell:>17}" for cell in row), flush=True)


if __name__ == "__main__":
    main()

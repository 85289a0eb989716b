"""How many clusters: the default, and a sweep over a range of k that keeps the evidence for people to judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.clustering.geometry import sample_rows
from services.clustering.quality import inertia, silhouette

# Every k is tried on at most this many vectors, drawn with the seed: a sweep costs the same however long the videos.
SWEEP_ROWS: Final = 5_000
# Steps of about a fifth; the neighbourhood of the best is then looked at more closely.
CANDIDATES: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 18, 22, 26, 32, 38, 46, 55, 66, 80, 100)
_CLOSER_LOOKS: Final = 6

FitLabels = Callable[[NDArray[np.float32], int], NDArray[np.int64]]


@dataclass(frozen=True)
class Evidence:
    """What came out with one number of clusters, in the space that was clustered."""

    n_clusters: int
    inertia: float
    silhouette: float | None  # None: not defined, see `quality.silhouette`


def default_n_clusters(n: int) -> int:
    """For n vectors, when nobody said: eight to a cluster, and at most the 100 clusters of the post."""
    return min(100, ceil(n / 8))


def sweep_n_clusters(
    X: NDArray[np.float32], fit_labels: FitLabels, n_clusters: Iterable[int] | None, *, seed: int
) -> tuple[Evidence, ...]:
    """Cluster X (n, d) into each number of clusters, ascending, and measure; more than X has distinct rows is left out.

    n_clusters: None: CANDIDATES, then numbers around the one with the best silhouette.
    fit_labels: called with vectors and a number of clusters; returns their labels.
    """
    X = X[sample_rows(len(X), SWEEP_ROWS, seed=seed)]
    most = count_distinct(X, at_most=len(X))

    def measure(numbers: Iterable[int]) -> list[Evidence]:
        return [_measure(X, fit_labels(X, k), k, seed) for k in sorted(set(numbers)) if k <= most]

    if n_clusters is not None:
        return tuple(measure(n_clusters))
    evidence = measure(CANDIDATES)
    evidence += measure(_between_neighbours(best(evidence), evidence))
    return tuple(sorted(evidence, key=lambda row: row.n_clusters))


def best(evidence: Iterable[Evidence]) -> Evidence | None:
    """The evidence with the highest silhouette, the fewest clusters first; None where no silhouette is defined."""
    scored = [(row.silhouette, -row.n_clusters, row) for row in evidence if row.silhouette is not None]
    return max(scored)[2] if scored else None


def count_distinct(X: NDArray[np.float32], *, at_most: int) -> int:
    """Number of distinct rows of X; counting stops at `at_most`."""
    seen: set[bytes] = set()
    for row in X:
        seen.add((row + np.float32(0)).tobytes())  # adding 0 turns -0.0 into 0.0, which is equal but other bytes
        if len(seen) == at_most:
            break
    return len(seen)


def _between_neighbours(chosen: Evidence | None, evidence: list[Evidence]) -> set[int]:
    """Numbers not tried yet between the neighbours of the chosen one, evenly spread."""
    if chosen is None:
        return set()
    tried = [row.n_clusters for row in evidence]
    position = tried.index(chosen.n_clusters)
    low, high = tried[max(position - 1, 0)], tried[min(position + 1, len(tried) - 1)]
    return set(np.linspace(low, high, _CLOSER_LOOKS + 2).astype(int).tolist()) - set(tried)


def _measure(X: NDArray[np.float32], labels: NDArray[np.int64], n_clusters: int, seed: int) -> Evidence:
    return Evidence(n_clusters, inertia(X, labels), silhouette(X, labels, seed=seed))

"""Where the clusters of a labelling lie: members, centroids, distances, medoids; the same for every algorithm."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

# A medoid is exact up to this many members: all pairs are 4 million distances. In a larger cluster every member's
# distance is totalled over this many others, drawn at random.
MEDOID_MEMBERS: Final = 2_048
_CHUNK_ROWS: Final = 1_024


def members_by_label(labels: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Row indices, ascending, of the clusters 0..k-1; noise (-1) is left out."""
    rows = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[rows], np.arange(labels.max(initial=-1) + 2))
    return [rows[start:end] for start, end in pairwise(starts)]


def centroid(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean of the rows of X, summed in float64."""
    return np.asarray(X.mean(axis=0, dtype=np.float64), dtype=np.float32)


def distances_to(point: NDArray[np.float32], X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Euclidean distance of every row of X to one point."""
    return np.asarray(np.linalg.norm(X - point, axis=1), dtype=np.float32)


def medoid(X: NDArray[np.float32], *, seed: int) -> int:
    """Index of the row of X with the least total Euclidean distance to the others (the first of several).

    Exact up to MEDOID_MEMBERS rows; beyond, the distances to a random MEDOID_MEMBERS of them are totalled.
    """
    # Seen from the centroid, the squares subtracted below are small, and so are their rounding errors.
    X = X - centroid(X)
    others = X[sample_rows(len(X), MEDOID_MEMBERS, seed=seed)]
    squares, other_squares = (np.einsum("ij,ij->i", rows, rows) for rows in (X, others))
    totals = np.empty(len(X))
    for start in range(0, len(X), _CHUNK_ROWS):
        chunk = slice(start, start + _CHUNK_ROWS)
        squared_distances = squares[chunk, None] + other_squares - 2 * X[chunk] @ others.T
        totals[chunk] = np.sqrt(squared_distances.clip(min=0)).sum(axis=1, dtype=np.float64)
    return int(totals.argmin())


def sample_rows(n: int, at_most: int, *, seed: int) -> NDArray[np.intp]:
    """Indices of all n rows, or of a random `at_most` of them, ascending; the same for the same seed."""
    if n <= at_most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, size=at_most, replace=False))

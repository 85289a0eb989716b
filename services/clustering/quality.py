"""How good a clustering is: by itself, and against a known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.clustering.geometry import centroid, distances_to, members_by_label, sample_rows

# The silhouette needs all pairs; its error from a sample of this size is in the third decimal.
SILHOUETTE_ROWS: Final = 5_000


def inertia(X: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Sum of squared distances to the own centroid; noise is left out."""
    clusters = (X[rows] for rows in members_by_label(labels))
    return float(sum(np.square(distances_to(centroid(rows), rows), dtype=np.float64).sum() for rows in clusters))


def silhouette(X: NDArray[np.float32], labels: NDArray[np.int64], *, seed: int) -> float | None:
    """Mean silhouette (Rousseeuw 1987), -1 to 1: how much nearer a vector is to its own cluster than to the next one.

    Of at most SILHOUETTE_ROWS vectors drawn with the seed; noise is left out. None where it is not defined: fewer
    than two clusters, or as many as vectors.
    """
    from sklearn.metrics import silhouette_score

    members = np.flatnonzero(labels >= 0)
    rows = members[sample_rows(len(members), SILHOUETTE_ROWS, seed=seed)]
    if not 2 <= len(np.unique(labels[rows])) < len(rows):
        return None
    return float(silhouette_score(X[rows], labels[rows]))


@dataclass(frozen=True)
class Agreement:
    """How well labels match a truth: each 1.0 when they are the same grouping under other names."""

    purity: float  # share of vectors that are of the commonest true class in their cluster; grows with k
    nmi: float  # normalised mutual information, arithmetic mean
    ari: float  # adjusted Rand index; 0 for random labels


def agreement(labels: NDArray[np.int64], truth: Sequence[Any] | NDArray[Any]) -> Agreement:
    """Compare labels with the true classes (numbers or words) of the same vectors; noise counts as one cluster."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    from sklearn.metrics.cluster import contingency_matrix

    counts = contingency_matrix(truth, labels)
    return Agreement(
        purity=float(counts.max(axis=0).sum() / counts.sum()),
        nmi=float(normalized_mutual_info_score(truth, labels)),
        ari=float(adjusted_rand_score(truth, labels)),
    )

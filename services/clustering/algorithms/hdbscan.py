"""HDBSCAN: dense groups of any shape and number; what belongs to none is noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.parameters import Declared, within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = "HDBSCAN"
# All pairs of vectors are held twice as float64: 1.8 GB at the peak for 10,000 vectors.
MAX_VECTORS = 10_000
SEEDED = False


@dataclass(frozen=True)
class Parameters(Declared):
    min_cluster_size: int = within(5, least=2, most=MAX_VECTORS)
    # Neighbours that make a vector's surroundings dense; None: min_cluster_size.
    min_samples: int | None = within(None, least=1, most=MAX_VECTORS)
    cluster_selection_method: Literal["eom", "leaf"] = "eom"  # few clusters of all sizes, or many small ones
    allow_single_cluster: bool = False


def fit(X: NDArray[np.float32], parameters: Parameters, *, seed: int) -> NDArray[Any]:
    """Labels of X as `sklearn.cluster.HDBSCAN` gives them, -1 for noise; the seed plays no part."""
    import numpy as np
    from sklearn.cluster import HDBSCAN

    if len(X) < max(parameters.min_cluster_size, parameters.min_samples or 0):
        return np.full(len(X), -1)  # too few for even one cluster, where scikit-learn would raise
    hdbscan = HDBSCAN(
        min_cluster_size=parameters.min_cluster_size,
        min_samples=parameters.min_samples,
        cluster_selection_method=parameters.cluster_selection_method,
        allow_single_cluster=parameters.allow_single_cluster,
        # Embeddings have too many dimensions for a search tree to help: the same labels 15 times as fast.
        algorithm="brute",
        copy=True,
    )
    labels: NDArray[np.int64] = hdbscan.fit(X).labels_
    return labels

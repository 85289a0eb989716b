"""Ward's agglomerative clustering: merges the two clusters whose union adds least variance, until k are left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from services.clustering.n_clusters import MOST_CLUSTERS
from shared.parameters import Declared, within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = "Hierarchical (Ward)"
# All pairs of vectors are held twice as float64: 1 GB at the peak for 10,000 vectors.
MAX_VECTORS: int | None = 10_000
SEEDED = False


@dataclass(frozen=True)
class Parameters(Declared):
    n_clusters: int | Literal["auto"] | None = within(None, least=1, most=MOST_CLUSTERS)


def fit(X: NDArray[np.float32], parameters: Parameters, *, seed: int) -> NDArray[Any]:
    """Labels of X as `sklearn.cluster.AgglomerativeClustering` gives them; the seed plays no part."""
    from sklearn.cluster import AgglomerativeClustering

    labels: NDArray[np.int64] = AgglomerativeClustering(parameters.n_clusters, linkage="ward").fit(X).labels_
    return labels

"""k-means on small random batches: nearly as good as k-means and much faster on hundreds of thousands of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from services.clustering.n_clusters import MOST_CLUSTERS
from shared.parameters import Declared, within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = "k-means in mini-batches"
MAX_VECTORS: int | None = None
SEEDED = True


@dataclass(frozen=True)
class Parameters(Declared):
    n_clusters: int | Literal["auto"] | None = within(None, least=1, most=MOST_CLUSTERS)
    n_init: int = within(3, least=1, most=1000)  # starts tried on a first sample; only the best is carried on
    max_iterations: int = within(100, least=1, most=100_000)  # passes over all vectors
    batch_size: int = within(1024, least=1, most=1_000_000)


def fit(X: NDArray[np.float32], parameters: Parameters, *, seed: int) -> NDArray[Any]:
    """Labels of X as `sklearn.cluster.MiniBatchKMeans(random_state=seed)` gives them."""
    from sklearn.cluster import MiniBatchKMeans

    kmeans = MiniBatchKMeans(
        parameters.n_clusters,
        n_init=parameters.n_init,
        max_iter=parameters.max_iterations,
        batch_size=parameters.batch_size,
        random_state=seed,
    )
    labels: NDArray[np.int32] = kmeans.fit(X).labels_
    return labels

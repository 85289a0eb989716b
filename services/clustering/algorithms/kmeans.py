"""k-means (Lloyd, k-means++ starts): round clusters of similar extent; every vector gets one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.clustering.parameters import NClusters, check_n_clusters, check_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = "k-means"
MAX_VECTORS: int | None = None
SEEDED = True

# Up to here ten starts cost seconds; beyond, one k-means++ start of many vectors is about as good as the best of ten.
MANY_VECTORS = 20_000


@dataclass(frozen=True)
class Parameters:
    n_clusters: NClusters = None
    n_init: int | None = None  # starts, of which the best is kept; None: 10 up to 20,000 vectors, else 1
    max_iterations: int = 300

    def __post_init__(self) -> None:
        check_n_clusters(self.n_clusters)
        check_whole("n_init", self.n_init, least=1, optional=True)
        check_whole("max_iterations", self.max_iterations, least=1)


def fit(X: NDArray[np.float32], parameters: Parameters, *, seed: int) -> NDArray[Any]:
    """Labels of X as `sklearn.cluster.KMeans(random_state=seed)` gives them."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    n_init = parameters.n_init or (10 if len(X) <= MANY_VECTORS else 1)
    kmeans = KMeans(
        parameters.n_clusters, n_init=n_init, max_iter=parameters.max_iterations, random_state=seed, copy_x=True
    )
    with warnings.catch_warnings():
        # Vectors may differ by less than float32 arithmetic can tell; the clusterer says when fewer clusters come out.
        warnings.filterwarnings("ignore", "Number of distinct clusters", ConvergenceWarning)
        labels: NDArray[np.int32] = kmeans.fit(X).labels_
    return labels

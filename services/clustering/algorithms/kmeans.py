"""k-means (Lloyd, k-means++ starts): round clusters of similar extent; every vector gets one."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from services.clustering.n_clusters import MOST_CLUSTERS
from shared.parameters import Declared, within

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TITLE = "k-means"
MAX_VECTORS: int | None = None
SEEDED = True

# Up to here ten starts cost seconds; beyond, one k-means++ start of many vectors is about as good as the best of ten.
MANY_VECTORS = 20_000


@dataclass(frozen=True)
class Parameters(Declared):
    n_clusters: int | Literal["auto"] | None = within(None, least=1, most=MOST_CLUSTERS)
    # Starts, of which the best is kept; None: 10 up to 20,000 vectors, else 1.
    n_init: int | None = within(None, least=1, most=1000)
    max_iterations: int = within(300, least=1, most=100_000)


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

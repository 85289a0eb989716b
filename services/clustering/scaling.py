"""What is done to vectors before they are clustered, so that distances between them mean something."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.catalog import SCALINGS


def scale(X: NDArray[np.float32], scaling: str, *, pca_dimensions: int, seed: int) -> NDArray[np.float32]:
    """X in the space that is to be clustered: float32 (n, d), or (n, at most pca_dimensions) for "pca".

    - "standard": every dimension to mean 0 and deviation 1 (scikit-learn's StandardScaler, which sums in float64 and
      keeps float32); a dimension in which all vectors agree becomes 0.
    - "none": as it is.
    - "l2": every vector to length 1, so that directions are compared; the zero vector has none and stays zero.
    - "pca": "standard", then the first principal components, in their own scale.
    """
    from sklearn.preprocessing import StandardScaler, normalize

    match scaling:
        case "none":
            return X
        case "l2":
            return np.asarray(normalize(X), dtype=np.float32)
        case "standard":
            return np.asarray(StandardScaler().fit_transform(X), dtype=np.float32)
        case "pca":
            return _principal_components(StandardScaler().fit_transform(X), pca_dimensions, seed)
        case _:
            raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}; not {scaling!r}")


def _principal_components(Z: NDArray[np.float32], dimensions: int, seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    dimensions = min(dimensions, *Z.shape)
    if not Z.any():  # all vectors equal: no direction is principal, every projection is zero
        return Z[:, :dimensions]
    return np.ascontiguousarray(PCA(dimensions, random_state=seed).fit_transform(Z), dtype=np.float32)

"""Vectors to clusters: scales them, runs one algorithm, and says the same things of the result whichever it was.

Pure: arrays in, plain data out; scikit-learn is imported when something is clustered. The same vectors, settings and
versions give the same labels in every call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from services.clustering import algorithms
from services.clustering.geometry import MEDOID_MEMBERS, centroid, distances_to, medoid, members_by_label
from services.clustering.n_clusters import NClusters
from services.clustering.quality import SILHOUETTE_ROWS, inertia, silhouette
from services.clustering.scaling import scale
from services.clustering.sweep import (
    SWEEP_ROWS,
    Evidence,
    FitLabels,
    best,
    count_distinct,
    default_n_clusters,
    sweep_n_clusters,
)
from services.clustering.threads import one_blas_thread
from shared.catalog import COMMON_CLUSTERING, DEFAULT_ALGORITHM, CommonClustering
from shared.errors import ErrorKind, PermanentError
from shared.parameters import BadParameter, Declared, make

# No embedding comes near; the square of anything larger, summed over the dimensions, may not fit into a float32.
LARGEST_MAGNITUDE: Final = 1e15
_ROWS_NAMED: Final = 5


class Algorithm(Protocol):
    """What a file of `algorithms/` must have; the module itself is the algorithm."""

    TITLE: str
    MAX_VECTORS: int | None  # None: any number
    SEEDED: bool  # does another seed give other labels?
    Parameters: type[Declared]  # a frozen dataclass, all fields with defaults

    def fit(self, X: NDArray[np.float32], parameters: Any, *, seed: int) -> NDArray[Any]:
        """Label every row of X (n, d): any whole numbers, -1 for noise.

        What `cluster` sees to, so that no algorithm has to: the rows are finite and not all equal, there are at most
        MAX_VECTORS of them, and `parameters.n_clusters`, where there is such a field, is a number no larger than the
        number of distinct rows. X is not to be modified.
        """
        ...


@dataclass(frozen=True)
class ClusteringSettings:
    """Everything that decides the labels of given vectors. Raises ValueError, starting with the field's name."""

    algorithm: str = DEFAULT_ALGORITHM
    parameters: Mapping[str, Any] = field(default_factory=dict)  # of the algorithm; what is left out has its default
    scaling: str = COMMON_CLUSTERING["scaling"]
    pca_dimensions: int = COMMON_CLUSTERING["pca_dimensions"]  # for scaling "pca"
    seed: int = COMMON_CLUSTERING["seed"]

    def __post_init__(self) -> None:
        CommonClustering(scaling=self.scaling, pca_dimensions=self.pca_dimensions, seed=self.seed)


@dataclass(frozen=True, eq=False)
class Cluster:
    label: int
    size: int
    share: float  # of all vectors that were clustered, noise included
    videos: int  # how many different videos its members come from
    centroid: NDArray[np.float32]  # (d,), mean of the members as the model gave them
    scaled_centroid: NDArray[np.float32]  # (d of the clustered space,), mean of the members after scaling
    medoid_index: int  # row of X; see `geometry.medoid`


@dataclass(frozen=True, eq=False)
class Clustering:
    """Labels and what can be said of them. Distances, inertia and silhouette are of the space that was clustered."""

    labels: NDArray[np.int64]  # (n,): 0..k-1 by falling size, then by first member; -1 is noise
    distances: NDArray[np.float32]  # (n,): Euclidean, to the own centroid; NaN for noise, which has none
    clusters: tuple[Cluster, ...]  # cluster i has label i
    n_clusters_asked: NClusters  # None: left out, or the algorithm takes no number
    n_clusters_used: int
    noise: int  # vectors in no cluster
    inertia: float
    silhouette: float | None  # None: not defined, see `quality.silhouette`
    evidence: tuple[Evidence, ...]  # why this n_clusters; empty unless "auto" was asked for
    parameters: Mapping[str, Any]  # all of the algorithm's, as asked for, defaults included
    notes: tuple[str, ...] = ()  # sentences for people


@one_blas_thread()
def cluster(X: NDArray[Any], settings: ClusteringSettings, *, groups: NDArray[Any] | None = None) -> Clustering:
    """Cluster the rows of X (n, d), of any real dtype, computed in float32; X is not modified.

    groups: (n,), which video each row comes from; None: every row counts as a video of its own.
    Raises PermanentError: NO_VECTORS, BAD_VECTORS (NaN, infinite), TOO_MANY_VECTORS for the algorithm, BAD_PARAMETERS.
    """
    groups = np.arange(len(X)) if groups is None else np.asarray(groups)
    if groups.shape != (len(X),):
        raise ValueError(f"groups must name the video of each of the {len(X)} rows of X; its shape is {groups.shape}")
    X, Z, algorithm, parameters = _prepare(X, settings)
    asked: NClusters = getattr(parameters, "n_clusters", None)
    wanted = asked if isinstance(asked, int) else default_n_clusters(len(X))
    # Equal vectors may leave a matrix product with different last bits, so both sides of the scaling are counted.
    distinct = min(count_distinct(rows, at_most=max(wanted, 2)) for rows in (X, Z))
    fit_labels = _fitting(algorithm, parameters, settings.seed)

    evidence: tuple[Evidence, ...] = ()
    if distinct == 1:
        labels = np.zeros(len(X), dtype=np.int64)
    else:
        if asked == "auto":
            evidence = sweep_n_clusters(Z, fit_labels, None, seed=settings.seed)
        chosen = best(evidence)
        labels = fit_labels(Z, chosen.n_clusters if chosen else min(wanted, distinct))

    members = members_by_label(labels)
    clustering = Clustering(
        labels=labels,
        distances=_distances(Z, members),
        clusters=tuple(_describe(label, rows, X, Z, groups, settings.seed) for label, rows in enumerate(members)),
        n_clusters_asked=asked,
        n_clusters_used=len(members),
        noise=int((labels < 0).sum()),
        inertia=inertia(Z, labels),
        silhouette=silhouette(Z, labels, seed=settings.seed),
        evidence=evidence,
        parameters=asdict(parameters),
    )
    return replace(clustering, notes=_notes(clustering, distinct))


@one_blas_thread()
def sweep(
    X: NDArray[Any], settings: ClusteringSettings, n_clusters: Iterable[int] | None = None
) -> tuple[Evidence, ...]:
    """What each number of clusters would give, ascending; see `sweep.sweep_n_clusters`. Raises as `cluster` does."""
    _, Z, algorithm, parameters = _prepare(X, settings)
    if not hasattr(parameters, "n_clusters"):
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"{settings.algorithm} finds the number of clusters by itself, so there is none to try; "
            "leave the sweep out, or sweep another algorithm.",
        )
    return sweep_n_clusters(Z, _fitting(algorithm, parameters, settings.seed), n_clusters, seed=settings.seed)


def algorithm_names() -> list[str]:
    return sorted(module.name for module in iter_modules(algorithms.__path__))


def load_algorithm(name: str) -> Algorithm:
    """Raises PermanentError(BAD_PARAMETERS) when there is no such file in `algorithms/`."""
    if name not in algorithm_names():
        raise PermanentError(
            ErrorKind.BAD_PARAMETERS,
            f"There is no clustering algorithm {name!r}; choose one of {', '.join(algorithm_names())}.",
        )
    return cast(Algorithm, import_module(f"{algorithms.__name__}.{name}"))


def _prepare(
    X: NDArray[Any], settings: ClusteringSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32], Algorithm, Any]:
    """Check everything that can be wrong; X as float32, X scaled, the algorithm, its parameters."""
    algorithm = load_algorithm(settings.algorithm)
    parameters = _parameters(algorithm, settings)
    X = _checked(X)
    if algorithm.MAX_VECTORS is not None and len(X) > algorithm.MAX_VECTORS:
        raise PermanentError(
            ErrorKind.TOO_MANY_VECTORS,
            f"{settings.algorithm} takes at most {algorithm.MAX_VECTORS:,} vectors, because it compares all pairs of "
            f"them, and there are {len(X):,}; use minibatch_kmeans or kmeans instead.",
        )
    Z = scale(X, settings.scaling, pca_dimensions=settings.pca_dimensions, seed=settings.seed)
    return X, Z, algorithm, parameters


def _parameters(algorithm: Algorithm, settings: ClusteringSettings) -> Any:
    try:
        return make(algorithm.Parameters, settings.parameters, "it")
    except BadParameter as error:
        raise PermanentError(ErrorKind.BAD_PARAMETERS, f"{settings.algorithm}: {error}.") from error


def _checked(X: NDArray[Any]) -> NDArray[np.float32]:
    if len(X) == 0:
        raise PermanentError(ErrorKind.NO_VECTORS, "There is nothing to cluster: not one vector was given.")
    with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused below
        X = np.ascontiguousarray(X, dtype=np.float32)
    if X.ndim != 2 or X.shape[1] == 0:
        raise ValueError(f"X must be of shape (n, d) with d of at least 1; its shape is {X.shape}")
    bad = np.flatnonzero(~(np.abs(X) <= LARGEST_MAGNITUDE).all(axis=1))  # NaN is not <= anything
    if len(bad):
        named = ", ".join(map(str, bad[:_ROWS_NAMED])) + (", …" if len(bad) > _ROWS_NAMED else "")
        raise PermanentError(
            ErrorKind.BAD_VECTORS,
            f"{len(bad):,} of {len(X):,} vectors hold NaN, infinite or absurdly large numbers "
            f"({'row' if len(bad) == 1 else 'rows'} {named}, counted from 0); embed them again or leave them out.",
        )
    return X


def _fitting(algorithm: Algorithm, parameters: Any, seed: int) -> FitLabels:
    """The algorithm as a function of vectors and a number of clusters; algorithms that find it themselves ignore it."""

    def fit_labels(Z: NDArray[np.float32], n_clusters: int) -> NDArray[np.int64]:
        takes_number = hasattr(parameters, "n_clusters")
        chosen = replace(parameters, n_clusters=n_clusters) if takes_number else parameters
        return _number_by_size(algorithm.fit(Z, chosen, seed=seed))

    return fit_labels


def _number_by_size(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The same clusters as 0..k-1: the largest is 0; of equally large ones, the one that has the earlier first row."""
    found, first_rows, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    sizes[found < 0] = 0  # noise goes last, and keeps its -1
    order = np.lexsort((first_rows, -sizes))
    numbers = np.empty(len(found), dtype=np.int64)
    numbers[order] = np.arange(len(found))
    numbers[found < 0] = -1
    return numbers[inverse]


def _distances(Z: NDArray[np.float32], members: list[NDArray[np.intp]]) -> NDArray[np.float32]:
    distances = np.full(len(Z), np.nan, dtype=np.float32)
    for rows in members:
        distances[rows] = distances_to(centroid(Z[rows]), Z[rows])
    return distances


def _describe(
    label: int,
    rows: NDArray[np.intp],
    X: NDArray[np.float32],
    Z: NDArray[np.float32],
    groups: NDArray[Any],
    seed: int,
) -> Cluster:
    return Cluster(
        label=label,
        size=len(rows),
        share=len(rows) / len(X),
        videos=len(np.unique(groups[rows])),
        centroid=centroid(X[rows]),
        scaled_centroid=centroid(Z[rows]),
        medoid_index=int(rows[medoid(Z[rows], seed=seed)]),
    )


def _notes(clustering: Clustering, distinct: int) -> tuple[str, ...]:
    n, asked, used = len(clustering.labels), clustering.n_clusters_asked, clustering.n_clusters_used
    notes = []
    if distinct == 1 and n > 1:
        notes.append(f"All {n:,} vectors are equal, so they are one cluster.")
    elif isinstance(asked, int) and used < asked:
        reason = f"only {distinct:,} of the vectors are distinct" if distinct < asked else "the others came out empty"
        notes.append(f"{asked:,} clusters were asked for and {used:,} used, because {reason}.")
    elif asked == "auto":
        notes.append(_note_on_choice(clustering.evidence, n))
    if clustering.noise == n:
        notes.append("No group is dense enough to be a cluster, so every vector is noise; try smaller sizes.")
    if n - clustering.noise > SILHOUETTE_ROWS:
        notes.append(f"The silhouette is that of {SILHOUETTE_ROWS:,} vectors drawn at random.")
    if any(cluster.size > MEDOID_MEMBERS for cluster in clustering.clusters):
        notes.append(f"Medoids of clusters of over {MEDOID_MEMBERS:,} are by distance to as many random members.")
    return tuple(notes)


def _note_on_choice(evidence: tuple[Evidence, ...], n: int) -> str:
    chosen = best(evidence)
    if chosen is None:
        return "There are too few vectors to compare numbers of clusters, so the default number was used."
    sample = f" on {SWEEP_ROWS:,} vectors drawn at random" if n > SWEEP_ROWS else ""
    return (
        f"Of {len(evidence)} numbers of clusters from {evidence[0].n_clusters} to {evidence[-1].n_clusters} "
        f"tried{sample}, {chosen.n_clusters} had the best silhouette ({chosen.silhouette:.2f})."
    )

"""What a clustering is called when nobody named it: its model, its algorithm and what tells it from others. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared import catalog

#: Settings that the first words of a title say, and those that come next, before the algorithm's own.
_SAID_FIRST, _SAID_NEXT = ("algorithm", "n_clusters"), ("scaling", "pca_dimensions", "seed")


def title(model: str, settings: Mapping[str, Any], n_clusters_used: int | None) -> str:
    """Such as "hog_color, kmeans, 12 clusters, scaling l2, seed 7": every setting that is not the usual one is named.

    settings: as they were asked for. n_clusters_used: None while there is no result.
    """
    algorithm = str(settings.get("algorithm", catalog.DEFAULT_ALGORITHM))
    usual = _usual(algorithm)
    unusual = [
        f"{name.replace('_', ' ')} {_written(value)}"
        for name, value in _in_order(settings)
        if name not in _SAID_FIRST and value != usual.get(name) and _counts(name, settings)
    ]
    numbers = _n_clusters(settings.get("n_clusters"), n_clusters_used)
    return ", ".join([model, algorithm, *([numbers] if numbers else []), *unusual])


def _in_order(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(settings.items(), key=lambda item: (item[0] not in _SAID_NEXT, item[0]))


def _usual(algorithm: str) -> Mapping[str, Any]:
    try:
        return catalog.clustering_settings({"algorithm": algorithm})
    except catalog.UnknownName:  # it was made by a version that had the algorithm
        return catalog.COMMON_CLUSTERING


def _counts(name: str, settings: Mapping[str, Any]) -> bool:
    return name != "pca_dimensions" or settings.get("scaling") == "pca"


def _n_clusters(asked: Any, used: int | None) -> str:
    if used is None:
        return "" if asked is None else f"k {asked}"
    words = f"{used:,} cluster" if used == 1 else f"{used:,} clusters"
    if asked is None:
        return words
    if asked == used:
        return f"{words} as asked"
    return f"{words} of {asked:,} asked for" if isinstance(asked, int) else f"{words} ({asked})"


def _written(value: Any) -> str:
    return "left out" if value is None else "yes" if value is True else "no" if value is False else str(value)

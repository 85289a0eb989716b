"""The clustering stage: the vectors of a job under one model, to clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.clustering import store
from services.clustering.clusterer import Clustering, ClusteringSettings, cluster
from services.clustering.store import Vectors
from shared.catalog import COMMON_CLUSTERING
from shared.pipeline import Stage as StageName
from shared.runner import Stage, Work
from shared.settings import Settings


def make_stage(settings: Settings) -> Stage[Vectors, tuple[Vectors, Clustering]]:
    """The stage as one worker process does it."""
    return Stage(StageName.CLUSTERING, settings.clustering_deadline_s, store.load, compute, store.save)


def compute(loaded: Sequence[Vectors], work: Work) -> list[tuple[Vectors, Clustering]]:
    """Cluster each; scikit-learn cannot be interrupted, so the deadline's last guard is Celery's hard limit."""
    results = []
    for vectors in loaded:
        work.check()
        results.append((vectors, cluster(vectors.X, _settings(vectors.settings), groups=vectors.videos)))
    return results


def _settings(asked: Mapping[str, Any]) -> ClusteringSettings:
    """The clusterer's settings from the flat form that people write and rows keep."""
    common = {name: asked[name] for name in COMMON_CLUSTERING}
    return ClusteringSettings(**common, parameters={name: asked[name] for name in asked if name not in common})

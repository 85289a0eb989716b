"""The clustering stage: the vectors of a job under one model, to clusters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from services.clustering import store
from services.clustering.clusterer import Clustering, ClusteringSettings, cluster
from services.clustering.store import Corpus
from shared.catalog import COMMON_CLUSTERING
from shared.runner import Handler, Work
from shared.settings import Settings
from shared.tasks import Claim


class ClusteringHandler(Handler[Corpus, Clustering]):
    """What one worker process does with the vectors of a job."""

    def __init__(self, settings: Settings) -> None:
        self.deadline_s = settings.clustering_deadline_s

    def load(self, connection: Connection, claim: Claim) -> Corpus | None:
        return store.load(connection, claim)

    def save(self, connection: Connection, claim: Claim, loaded: Corpus, result: Clustering) -> None:
        store.save(connection, claim, loaded, result)

    def compute(self, items: Sequence[Corpus], work: Work) -> list[Clustering]:
        """Cluster each; scikit-learn cannot be interrupted, so the deadline's last guard is Celery's hard limit."""
        found = []
        for corpus in items:
            work.check()
            found.append(cluster(corpus.X, _settings(corpus.settings), groups=corpus.videos))
        return found


def _settings(asked: Mapping[str, Any]) -> ClusteringSettings:
    """The clusterer's settings from the flat form that people write and rows keep."""
    common = {name: asked[name] for name in COMMON_CLUSTERING}
    return ClusteringSettings(**common, parameters={name: asked[name] for name in asked if name not in common})

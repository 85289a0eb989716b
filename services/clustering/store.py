"""Moves vectors and clusters between tables and plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, insert, text

from services.clustering.clusterer import Clustering
from shared.tables import assignments, clusterings, clusters
from shared.tasks import Claim
from shared.vectors import matrix


@dataclass(frozen=True)
class Corpus:
    """The vectors of one job under one model, and whose they are.

    X: float32 (n, d), each key frame once, ordered by its first source's position, then by frame index.
    key_frame_ids: of the rows. videos: (n,), equal numbers for rows of one video.
    complete: whether nothing that could add a row was open when they were read.
    settings: as asked for.
    """

    X: NDArray[np.float32]
    key_frame_ids: tuple[str, ...]
    videos: NDArray[np.int64]
    complete: bool
    settings: Mapping[str, Any]


def load(connection: Connection, claim: Claim) -> Corpus | None:
    """What a clustering task clusters; None when the clustering was deleted."""
    clustering = connection.execute(
        text("SELECT model, settings FROM clusterings WHERE id = :id"), {"id": claim.clustering_id}
    ).one_or_none()
    if clustering is None:
        return None
    complete = not connection.execute(
        text(
            """SELECT EXISTS (SELECT FROM tasks WHERE job_id = :job AND state IN ('queued', 'running')
            AND (queue = 'keyframes' OR (queue = 'embedding' AND model = :model)))"""
        ),
        {"job": claim.job_id, "model": clustering.model},
    ).scalar_one()
    rows = connection.execute(
        text(
            """
            WITH shown AS (
                SELECT extraction_id, min(position) AS position FROM sources
                WHERE job_id = :job AND extraction_id IS NOT NULL GROUP BY extraction_id
            )
            SELECT k.id, shown.position AS video, vector_send(e.vector) AS vector
            FROM shown
            JOIN key_frames k ON k.extraction_id = shown.extraction_id
            JOIN embeddings e ON e.key_frame_id = k.id AND e.model = :model
            ORDER BY shown.position, k.frame_index"""
        ),
        {"job": claim.job_id, "model": clustering.model},
    ).all()
    dimension = len(bytes(rows[0].vector)[4:]) // 4 if rows else 0
    return Corpus(
        X=matrix((row.vector for row in rows), dimension),
        key_frame_ids=tuple(row.id for row in rows),
        videos=np.array([row.video for row in rows], dtype=np.int64),
        complete=complete,
        settings=clustering.settings,
    )


def save(connection: Connection, claim: Claim, corpus: Corpus, clustering: Clustering) -> None:
    """Write the clustering's description, its clusters and which key frame is in which."""
    connection.execute(
        clusterings.update()
        .where(clusterings.c.id == claim.clustering_id)
        .values(
            key_frame_count=len(corpus.key_frame_ids),
            complete=corpus.complete,
            n_clusters_asked=None if clustering.n_clusters_asked is None else str(clustering.n_clusters_asked),
            n_clusters_used=clustering.n_clusters_used,
            seed=corpus.settings["seed"],
            inertia=clustering.inertia,
            silhouette=clustering.silhouette,
            noise_count=clustering.noise,
            evidence=[asdict(row) for row in clustering.evidence],
            notes=list(clustering.notes),
        )
    )
    _write_clusters(connection, claim, corpus, clustering)
    connection.execute(
        insert(assignments),
        [
            {
                "clustering_id": claim.clustering_id,
                "key_frame_id": key_frame_id,
                "label": int(label),
                "distance": None if label < 0 else float(distance),
            }
            for key_frame_id, label, distance in zip(
                corpus.key_frame_ids, clustering.labels, clustering.distances, strict=True
            )
        ],
    )


def _write_clusters(connection: Connection, claim: Claim, corpus: Corpus, clustering: Clustering) -> None:
    if not clustering.clusters:
        return  # hdbscan may find nothing but noise
    connection.execute(
        insert(clusters),
        [
            {
                "clustering_id": claim.clustering_id,
                "label": cluster.label,
                "size": cluster.size,
                "video_count": cluster.videos,
                "mean_distance": float(clustering.distances[clustering.labels == cluster.label].mean()),
                "centroid": cluster.centroid,
                "scaled_centroid": cluster.scaled_centroid,
                "medoid_id": corpus.key_frame_ids[cluster.medoid_index],
            }
            for cluster in clustering.clusters
        ],
    )

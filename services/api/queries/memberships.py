"""Where a key frame is: its clusters, and the models that it has vectors of."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from services.api import clustering_words, paths
from services.api.queries.clusterings import SUPERSEDED
from services.api.queries.clusters import GROUPS
from services.api.schemas.answers import Membership


def list_memberships(connection: Connection, project_id: str, key_frame_id: str, limit: int = 20) -> list[Membership]:
    """Where a key frame is in the clusterings that saw it, the newest first; superseded ones are left out."""
    rows = connection.execute(
        text(
            f"""
            SELECT c.id AS clustering_id, g.id AS cluster_id, a.label, g.size, a.distance,
                   c.job_id, c.name, c.model, c.settings, c.n_clusters_used
            FROM assignments a
            JOIN clusterings c ON c.id = a.clustering_id
            JOIN {GROUPS} g ON g.clustering_id = a.clustering_id AND g.label = a.label
            JOIN jobs j ON j.id = c.job_id
            WHERE a.key_frame_id = :key_frame AND j.project_id = :project AND NOT ({SUPERSEDED})
            ORDER BY c.created_at DESC, c.id LIMIT :limit"""
        ),
        {"key_frame": key_frame_id, "project": project_id, "limit": limit},
    )
    return [_membership(row) for row in rows]


def _membership(row: Any) -> Membership:
    return Membership(
        cluster_id=row.cluster_id,
        label=row.label,
        size=row.size,
        distance=row.distance,
        clustering_id=row.clustering_id,
        job_id=row.job_id,
        model=row.model,
        name=row.name,
        title=clustering_words.title(row.model, row.settings, row.n_clusters_used),
        links={
            "cluster": paths.cluster(row.cluster_id),
            "clustering": paths.clustering(row.clustering_id),
            "page": paths.cluster_page(row.cluster_id),
        },
    )


def embedded_by(connection: Connection, key_frame_id: str) -> list[str]:
    """The models that the key frame has a vector of, by name."""
    return list(
        connection.execute(
            text("SELECT model FROM embeddings WHERE key_frame_id = :key_frame ORDER BY model"),
            {"key_frame": key_frame_id},
        ).scalars()
    )

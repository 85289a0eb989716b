"""Where a key frame is: its clusters, and the models that it has vectors of."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from services.api import paths


@dataclass(frozen=True)
class Membership:
    """A key frame's place in one clustering. Noise is no cluster: it has no id, no size and no distance."""

    clustering_id: str
    cluster_id: str | None
    label: int
    size: int | None
    distance: float | None
    model: str
    algorithm: str
    n_clusters_used: int | None

    @property
    def page(self) -> str:
        """The address of the cluster's page, or the clustering's for noise."""
        return paths.cluster_page(self.cluster_id) if self.cluster_id else paths.clustering_page(self.clustering_id)


def list_memberships(connection: Connection, project_id: str, key_frame_id: str, limit: int = 20) -> list[Membership]:
    """Where a key frame is in the clusterings that saw it, the newest first."""
    rows = connection.execute(
        text(
            """
            SELECT c.id AS clustering_id, g.id AS cluster_id, a.label, g.size, a.distance, c.model,
                   c.settings ->> 'algorithm' AS algorithm, c.n_clusters_used
            FROM assignments a
            JOIN clusterings c ON c.id = a.clustering_id
            LEFT JOIN clusters g ON g.clustering_id = a.clustering_id AND g.label = a.label
            JOIN jobs j ON j.id = c.job_id
            WHERE a.key_frame_id = :key_frame AND j.project_id = :project
            ORDER BY c.created_at DESC, c.id LIMIT :limit"""
        ),
        {"key_frame": key_frame_id, "project": project_id, "limit": limit},
    )
    return [Membership(**row._mapping) for row in rows]


def embedded_by(connection: Connection, key_frame_id: str) -> list[str]:
    """The models that the key frame has a vector of, by name."""
    return list(
        connection.execute(
            text("SELECT model FROM embeddings WHERE key_frame_id = :key_frame ORDER BY model"),
            {"key_frame": key_frame_id},
        ).scalars()
    )

"""Clusterings of a job."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

from services.api import clustering_words, cursors, paths
from services.api.cursors import Page, cut
from services.api.problems import NotFound
from services.api.queries.jobs import require_job
from services.api.queries.sources import failure
from services.api.schemas.answers import Clustering

#: Whether a later round clustered more of the job by the same settings as its clustering `c`.
SUPERSEDED = """NOT c.asked AND EXISTS (
    SELECT FROM clusterings later JOIN tasks made ON made.clustering_id = later.id AND made.state = 'succeeded'
    WHERE later.job_id = c.job_id AND later.model = c.model AND later.settings_key = c.settings_key
      AND NOT later.asked AND later.round > c.round)"""

_CLUSTERINGS = f"""
    SELECT c.id, c.job_id, c.name, c.round, {SUPERSEDED} AS superseded,
           c.model, c.settings, c.asked, c.created_at, c.key_frame_count, c.complete,
           c.n_clusters_asked, c.n_clusters_used, c.seed, c.inertia, c.silhouette, c.noise_count, c.evidence, c.notes,
           t.state, t.error_kind, t.error, t.finished_at,
           ARRAY(SELECT size FROM clusters WHERE clustering_id = c.id ORDER BY label) AS sizes
    FROM clusterings c JOIN tasks t ON t.clustering_id = c.id"""


def get_clustering(connection: Connection, project_id: str, clustering_id: str) -> Clustering:
    """Raises `NotFound`."""
    row = connection.execute(
        text(f"{_CLUSTERINGS} JOIN jobs j ON j.id = c.job_id WHERE c.id = :id AND j.project_id = :project"),
        {"id": clustering_id, "project": project_id},
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no clustering {clustering_id}.", "clustering_id")
    return _clustering(row)


def list_clusterings(
    connection: Connection, project_id: str, job_id: str, *, limit: int, cursor: str | None = None
) -> Page[Clustering]:
    """The job's clusterings, newest first. Raises `NotFound`, or `Invalid` for a wrong cursor."""
    require_job(connection, project_id, job_id)
    values: dict[str, Any] = {"job": job_id, "limit": limit + 1}
    where = "c.job_id = :job"
    if cursor:
        where += " AND (c.created_at, c.id) < (:created_at, CAST(:id AS uuid))"
        values["created_at"], values["id"] = cursors.decode(cursor, cursors.time, cursors.identifier)
    rows = connection.execute(
        text(f"{_CLUSTERINGS} WHERE {where} ORDER BY c.created_at DESC, c.id DESC LIMIT :limit"), values
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.created_at, row.id))
    return Page([_clustering(row) for row in kept], next_cursor)


def _clustering(row: Any) -> Clustering:
    asked: str | None = row.n_clusters_asked
    return Clustering(
        id=row.id,
        job_id=row.job_id,
        name=row.name,
        title=clustering_words.title(row.model, row.settings, row.n_clusters_used),
        round=row.round,
        superseded=row.superseded,
        model=row.model,
        settings=row.settings,
        asked=row.asked,
        state=row.state,
        error=failure(row),
        created_at=row.created_at,
        finished_at=row.finished_at,
        key_frames=row.key_frame_count,
        complete=row.complete,
        n_clusters_asked=int(asked) if asked and asked.isdigit() else asked,
        n_clusters_used=row.n_clusters_used,
        seed=row.seed,
        inertia=row.inertia,
        silhouette=row.silhouette,
        noise=row.noise_count,
        sizes=row.sizes,
        evidence=row.evidence,
        notes=row.notes or [],
        links={
            "self": paths.clustering(row.id),
            "job": paths.job(row.job_id),
            "clusters": paths.clustering_clusters(row.id),
            "page": paths.clustering_page(row.id),
            # Noise goes by the id of its clustering.
            **({"noise": paths.cluster(row.id), "noise_page": paths.cluster_page(row.id)} if row.noise_count else {}),
        },
    )

"""What a job shows of itself in a list: the medoids of its largest clusters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, text

from services.api.queries.key_frames import key_frames_by_id
from services.api.schemas.answers import KeyFrame

#: Pictures of one job.
COVERS = 6


def list_covers(connection: Connection, project_id: str, job_ids: Sequence[str]) -> dict[str, list[KeyFrame]]:
    """By job, the medoids of the largest clusters of its newest clustering that has some; jobs without are left out."""
    rows = connection.execute(
        text(
            f"""
            SELECT newest.job_id, largest.medoid_id
            FROM (
                SELECT DISTINCT ON (job_id) id, job_id FROM clusterings
                WHERE job_id = ANY(CAST(:jobs AS uuid[])) AND n_clusters_used > 0 ORDER BY job_id, created_at DESC, id
            ) newest
            CROSS JOIN LATERAL (
                SELECT medoid_id, size, label FROM clusters
                WHERE clustering_id = newest.id AND medoid_id IS NOT NULL ORDER BY size DESC, label LIMIT {COVERS}
            ) largest
            ORDER BY newest.job_id, largest.size DESC, largest.label"""
        ),
        {"jobs": list(job_ids)},
    ).all()
    key_frames = key_frames_by_id(connection, project_id, {row.medoid_id for row in rows}, job_ids)
    covers: dict[str, list[KeyFrame]] = defaultdict(list)
    for row in rows:
        covers[row.job_id].append(key_frames[row.medoid_id])
    return dict(covers)

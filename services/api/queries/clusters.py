"""The clusters of a clustering, and which key frames are in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, text

from services.api import cursors, paths
from services.api.cursors import Page, cut
from services.api.problems import NotFound
from services.api.queries.clusterings import get_clustering
from services.api.queries.key_frames import key_frames_by_id, with_distances
from services.api.schemas.answers import Cluster, KeyFrameAt

#: Key frames shown of each cluster in a list.
NEAREST = 8

#: Every cluster, and the noise of every clustering that has some. Noise has no row: it goes by its clustering's id.
GROUPS = """(
    SELECT id, clustering_id, label, size, video_count, mean_distance, medoid_id FROM clusters
    UNION ALL SELECT id, id, -1, noise_count, NULL, NULL, NULL FROM clusterings WHERE noise_count > 0)"""

_COLUMNS = "c.id, c.clustering_id, g.job_id, c.label, c.size, c.video_count, c.mean_distance, c.medoid_id"

#: How a list is ordered -> by which two whole numbers. Noise comes last.
_ORDERS = {
    "label": ("(c.label < 0)::int", "c.label"),
    "size": ("CASE WHEN c.label < 0 THEN 1 ELSE -c.size END", "c.label"),
}


def list_clusters(
    connection: Connection,
    project_id: str,
    clustering_id: str,
    *,
    limit: int,
    cursor: str | None = None,
    order: Literal["label", "size"] = "label",
) -> Page[Cluster]:
    """The clusters, by label or the largest first, and noise as the last.

    Raises `NotFound`, or `Invalid` for a wrong cursor.
    """
    get_clustering(connection, project_id, clustering_id)
    first, second = _ORDERS[order]
    values: dict[str, Any] = {"clustering": clustering_id, "limit": limit + 1}
    where = "c.clustering_id = :clustering"
    if cursor:
        where += f" AND ({first}, {second}) > (:first, :second)"
        values["first"], values["second"] = cursors.decode(cursor, cursors.whole, cursors.whole)
    rows = connection.execute(
        text(
            f"""SELECT {_COLUMNS}, {first} AS first, {second} AS second
            FROM {GROUPS} c JOIN clusterings g ON g.id = c.clustering_id
            WHERE {where} ORDER BY {first}, {second} LIMIT :limit"""
        ),
        values,
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.first, row.second))
    return Page(_clusters(connection, project_id, kept), next_cursor)


def get_cluster(connection: Connection, project_id: str, cluster_id: str) -> Cluster:
    """Raises `NotFound`."""
    return _clusters(connection, project_id, _rows(connection, project_id, cluster_id))[0]


def _rows(connection: Connection, project_id: str, cluster_id: str) -> Sequence[Any]:
    """The one row of a cluster. Raises `NotFound`."""
    rows = connection.execute(
        text(
            f"""SELECT {_COLUMNS} FROM {GROUPS} c JOIN clusterings g ON g.id = c.clustering_id
            JOIN jobs j ON j.id = g.job_id WHERE c.id = :id AND j.project_id = :project"""
        ),
        {"id": cluster_id, "project": project_id},
    ).all()
    if not rows:
        raise NotFound(f"There is no cluster {cluster_id}.", "cluster_id")
    return rows


def list_key_frames(
    connection: Connection, project_id: str, cluster_id: str, *, limit: int, cursor: str | None = None
) -> Page[KeyFrameAt]:
    """The cluster's members, nearest the centroid first; those of noise, which has none, by video and second.

    Raises `NotFound`, or `Invalid` for a wrong cursor.
    """
    (cluster,) = _rows(connection, project_id, cluster_id)
    values: dict[str, Any] = {"clustering": cluster.clustering_id, "label": cluster.label, "limit": limit + 1}
    if cluster.label < 0:
        kept, next_cursor = _noise(connection, values, limit, cursor)
    else:
        kept, next_cursor = _nearest_first(connection, values, limit, cursor)
    return Page(with_distances(connection, project_id, kept, [cluster.job_id]), next_cursor)


def _nearest_first(
    connection: Connection, values: dict[str, Any], limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    where = "clustering_id = :clustering AND label = :label"
    if cursor:
        # The column is of float32: a float64 of the same digits is another number.
        where += " AND (distance, key_frame_id) > (CAST(:distance AS real), CAST(:id AS uuid))"
        values["distance"], values["id"] = cursors.decode(cursor, cursors.distance, cursors.identifier)
    rows = connection.execute(
        text(
            f"""SELECT key_frame_id, distance FROM assignments WHERE {where}
            ORDER BY distance, key_frame_id LIMIT :limit"""
        ),
        values,
    ).all()
    return cut(rows, limit, lambda row: (row.distance, row.key_frame_id))


def _noise(
    connection: Connection, values: dict[str, Any], limit: int, cursor: str | None
) -> tuple[Sequence[Any], str | None]:
    where = "a.clustering_id = :clustering AND a.label = :label"
    if cursor:
        where += " AND (k.extraction_id, k.position) > (CAST(:extraction AS uuid), :position)"
        values["extraction"], values["position"] = cursors.decode(cursor, cursors.identifier, cursors.whole)
    rows = connection.execute(
        text(
            f"""SELECT a.key_frame_id, a.distance, k.extraction_id, k.position
            FROM assignments a JOIN key_frames k ON k.id = a.key_frame_id
            WHERE {where} ORDER BY k.extraction_id, k.position LIMIT :limit"""
        ),
        values,
    ).all()
    return cut(rows, limit, lambda row: (row.extraction_id, row.position))


def _clusters(connection: Connection, project_id: str, rows: Sequence[Any]) -> list[Cluster]:
    """Clusters of one clustering, with their medoid and the key frames nearest the centroid."""
    if not rows:
        return []
    job_ids = [rows[0].job_id]
    of = rows[0].clustering_id, rows[0].job_id
    videos = _video_count(connection, *of)
    noisy_videos = _video_count(connection, *of, label=-1) if any(row.label < 0 for row in rows) else 0
    medoids = key_frames_by_id(connection, project_id, {row.medoid_id for row in rows if row.medoid_id}, job_ids)
    nearest_rows = connection.execute(
        text(
            f"""
            SELECT c.id AS cluster_id, a.key_frame_id, a.distance FROM {GROUPS} c CROSS JOIN LATERAL (
                SELECT key_frame_id, distance FROM assignments
                WHERE clustering_id = c.clustering_id AND label = c.label
                ORDER BY distance, key_frame_id LIMIT {NEAREST}
            ) a WHERE c.id = ANY(CAST(:ids AS uuid[]))"""
        ),
        {"ids": [row.id for row in rows]},
    ).all()
    nearest: dict[str, list[KeyFrameAt]] = defaultdict(list)
    key_frames = with_distances(connection, project_id, nearest_rows, job_ids)
    for row, key_frame in zip(nearest_rows, key_frames, strict=True):
        nearest[row.cluster_id].append(key_frame)
    video_counts = {row.id: noisy_videos if row.label < 0 else row.video_count for row in rows}
    return [
        Cluster(
            id=row.id,
            clustering_id=row.clustering_id,
            label=row.label,
            size=row.size,
            videos=video_counts[row.id],
            video_share=video_counts[row.id] / videos if videos else 0.0,
            mean_distance=row.mean_distance,
            medoid=medoids.get(row.medoid_id),
            nearest=sorted(nearest[row.id], key=lambda each: (each.distance or 0, each.id)),
            links={
                "self": paths.cluster(row.id),
                "clustering": paths.clustering(row.clustering_id),
                "key_frames": paths.cluster_key_frames(row.id),
                "page": paths.cluster_page(row.id),
            },
        )
        for row in rows
    ]


def _video_count(connection: Connection, clustering_id: str, job_id: str, label: int | None = None) -> int:
    """How many videos the clustering saw, or those with that label; the job may have grown since."""
    count: int = connection.execute(
        text(
            f"""
            SELECT count(*) FROM (SELECT DISTINCT extraction_id FROM sources WHERE job_id = :job) s
            WHERE EXISTS (SELECT FROM key_frames k JOIN assignments a ON a.key_frame_id = k.id
                          WHERE k.extraction_id = s.extraction_id AND a.clustering_id = :clustering
                          {"" if label is None else "AND a.label = :label"})"""
        ),
        {"job": job_id, "clustering": clustering_id, "label": label},
    ).scalar_one()
    return count

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
from services.api.schemas import Cluster, KeyFrameAt

#: Key frames shown of each cluster in a list.
NEAREST = 8

_COLUMNS = "c.id, c.clustering_id, g.job_id, c.label, c.size, c.video_count, c.mean_distance, c.medoid_id"

#: How a list is ordered -> by which two whole numbers.
_ORDERS = {"label": ("c.label", "c.label"), "size": ("-c.size", "c.label")}


def list_clusters(
    connection: Connection,
    project_id: str,
    clustering_id: str,
    *,
    limit: int,
    cursor: str | None = None,
    order: Literal["label", "size"] = "label",
) -> Page[Cluster]:
    """The clusters, by label or the largest first. Raises `NotFound`, or `Invalid` for a wrong cursor."""
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
            FROM clusters c JOIN clusterings g ON g.id = c.clustering_id
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
            f"""SELECT {_COLUMNS} FROM clusters c JOIN clusterings g ON g.id = c.clustering_id
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
    """The cluster's members, nearest the centroid first. Raises `NotFound`, or `Invalid` for a wrong cursor."""
    (cluster,) = _rows(connection, project_id, cluster_id)
    values: dict[str, Any] = {"clustering": cluster.clustering_id, "label": cluster.label, "limit": limit + 1}
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
    kept, next_cursor = cut(rows, limit, lambda row: (row.distance, row.key_frame_id))
    return Page(with_distances(connection, project_id, kept, [cluster.job_id]), next_cursor)


def _clusters(connection: Connection, project_id: str, rows: Sequence[Any]) -> list[Cluster]:
    """Clusters of one clustering, with their medoid and the key frames nearest the centroid."""
    if not rows:
        return []
    job_ids = [rows[0].job_id]
    videos = _video_count(connection, rows[0].clustering_id, rows[0].job_id)
    medoids = key_frames_by_id(connection, project_id, {row.medoid_id for row in rows if row.medoid_id}, job_ids)
    nearest_rows = connection.execute(
        text(
            f"""
            SELECT c.id AS cluster_id, a.key_frame_id, a.distance FROM clusters c CROSS JOIN LATERAL (
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
    return [
        Cluster(
            id=row.id,
            clustering_id=row.clustering_id,
            label=row.label,
            size=row.size,
            videos=row.video_count,
            video_share=row.video_count / videos if videos else 0.0,
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


def _video_count(connection: Connection, clustering_id: str, job_id: str) -> int:
    """How many videos the clustering saw; the job may have grown since."""
    count: int = connection.execute(
        text(
            """
            SELECT count(*) FROM (SELECT DISTINCT extraction_id FROM sources WHERE job_id = :job) s
            WHERE EXISTS (SELECT FROM key_frames k JOIN assignments a ON a.key_frame_id = k.id
                          WHERE k.extraction_id = s.extraction_id AND a.clustering_id = :clustering)"""
        ),
        {"job": job_id, "clustering": clustering_id},
    ).scalar_one()
    return count

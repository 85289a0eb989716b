"""Exports that a person asks for."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, text

from services.api.problems import TooMany, invalid
from services.api.queries import clusterings, clusters, jobs, search
from services.api.queries import exports as queries
from services.api.queries.key_frames import get_key_frame
from services.api.schemas.requests import ExportedSearch, ExportRequest
from shared import catalog, tasks
from shared.blobs import BlobStore
from shared.db import Database, is_conflict
from shared.settings import Settings
from shared.tables import exports

#: Exports of a project that are not written yet. Each may take much of the worker's time and disk.
MAX_OPEN = 20
RETRY_AFTER_S = 30
DAY_S = 24 * 3600.0

_SUBJECTS = ("job_id", "clustering_id", "cluster_id", "search")


def ask_for(connection: Connection, project_id: str, settings: Settings, request: ExportRequest) -> str:
    """Write the row of an export and its task. Returns the export's id.

    Raises `NotFound`, `Invalid` naming the field, also where there is nothing to export, or `TooMany`.
    """
    try:
        catalog.known("format", request.format, catalog.formats())
    except catalog.UnknownName as error:
        invalid("format", str(error))
    given = [name for name in _SUBJECTS if getattr(request, name) is not None]
    if len(given) != 1:
        invalid(given[1] if given else "job_id", f"say what is to be exported: one of {', '.join(_SUBJECTS)}")
    job_id, subject = _subject(connection, project_id, request)
    if job_id is not None:
        tasks.share_jobs(connection, [job_id])
        jobs.require_job(connection, project_id, job_id)  # it may have been deleted since
    _check_room(connection, project_id)
    expires_at = text("now() + make_interval(secs => :kept_s)").bindparams(kept_s=settings.exports_kept_days * DAY_S)
    export_id: str = connection.execute(
        insert(exports)
        .values(project_id=project_id, job_id=job_id, subject=subject, format=request.format, expires_at=expires_at)
        .returning(exports.c.id)
    ).scalar_one()
    tasks.add_export_task(connection, export_id)
    return export_id


def _check_room(connection: Connection, project_id: str) -> None:
    waiting = connection.execute(
        text(
            """SELECT count(*) FROM exports x JOIN tasks t ON t.export_id = x.id
            WHERE x.project_id = :project AND t.state IN ('queued', 'running')"""
        ),
        {"project": project_id},
    ).scalar_one()
    if waiting >= MAX_OPEN:
        raise TooMany(f"{waiting} exports are not written yet; wait for some of them, or delete some.", RETRY_AFTER_S)


def _subject(connection: Connection, project_id: str, request: ExportRequest) -> tuple[str | None, dict[str, Any]]:
    """The job that the export belongs to, and what is exported, looked at whether it holds anything."""
    if request.job_id is not None:
        if not jobs.get_job(connection, project_id, request.job_id).key_frames_count:
            invalid("job_id", "this job has no key frames yet; export it when some of its videos were read")
        return request.job_id, {"kind": "job", "job_id": request.job_id}
    if request.clustering_id is not None:
        clustering = clusterings.get_clustering(connection, project_id, request.clustering_id)
        if not clustering.key_frames:
            invalid("clustering_id", "this clustering has no result; export it when it has succeeded")
        return clustering.job_id, {"kind": "clustering", "clustering_id": clustering.id}
    if request.cluster_id is not None:
        cluster = clusters.get_cluster(connection, project_id, request.cluster_id)
        clustering = clusterings.get_clustering(connection, project_id, cluster.clustering_id)
        named = {"cluster_id": cluster.id, "clustering_id": clustering.id, "label": cluster.label}
        return clustering.job_id, {"kind": "cluster", **named}
    assert request.search is not None
    return None, _search(connection, project_id, request.search)


def _search(connection: Connection, project_id: str, asked: ExportedSearch) -> dict[str, Any]:
    if (asked.key_frame_id is None) == (asked.query_id is None):
        invalid("search.key_frame_id", "give either key_frame_id or query_id")
    search.check_jobs(connection, project_id, asked.jobs)
    if asked.key_frame_id is not None:
        key_frame = get_key_frame(connection, project_id, asked.key_frame_id)
        model = search.model_of_key_frame(connection, project_id, key_frame.id, asked.model, asked.jobs)
        found = search.nearest_to_key_frame(connection, project_id, key_frame.id, model, asked.jobs, 1)
    else:
        assert asked.query_id is not None
        picture = search.get_query(connection, project_id, asked.query_id)
        if not picture.ready:
            invalid("search.query_id", "this picture has no vector yet; export when the search has its answer")
        model = picture.model
        found = search.nearest_to_query(connection, project_id, picture, asked.jobs, 1)
    if not found.items:
        invalid("search", f"this search finds nothing: no other key frame there has a vector of {model}")
    return {**asked.model_dump(), "model": model, "kind": "search"}


def delete(database: Database, blobs: BlobStore, project_id: str, export_id: str) -> None:
    """Delete an export in whatever state it is, with its file. Raises `NotFound`."""

    def delete(connection: Connection) -> str | None:
        export = queries.get_export(connection, project_id, export_id)
        tasks.lock_export_tasks(connection, export_id=export.id)
        return connection.execute(
            text("DELETE FROM exports WHERE id = :id RETURNING blob"), {"id": export.id}
        ).scalar_one_or_none()

    # What a worker is just storing, or the store does not remove now, is an orphan, and orphans are collected.
    if blob := database.retrying(delete, after=is_conflict):
        blobs.delete([blob])

"""Lets the sources of a job grow, be corrected and be removed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, text

from services.api.commands.deletion import STATEMENT_TIMEOUT_S, delete_blobs, delete_unused, hold_used
from services.api.commands.jobs import lock_to_grow
from services.api.commands.new_sources import list_levels, new_sources
from services.api.problems import Conflict, Invalid, NotFound
from services.api.queries.jobs import job_not_found, require_job
from shared import tasks
from shared.blobs import BlobStore
from shared.db import Database, is_conflict
from shared.settings import Settings
from shared.sources import add_sources
from shared.tasks import JobState, TaskState


def check(
    connection: Connection,
    project_id: str,
    settings: Settings,
    job_id: str,
    urls: Sequence[str],
    coming: Collection[str] = (),
) -> None:
    """Raise what `add` would raise, and write nothing. coming: ids of uploads whose bytes are still to be stored."""
    lock_to_grow(connection, project_id, job_id)
    new_sources(connection, project_id, settings, urls, coming)


def add(
    connection: Connection, project_id: str, settings: Settings, job_id: str, urls: Sequence[str], *, expand: bool
) -> list[str]:
    """Add URLs to a job that is not cancelled. Returns those that were repeated, or that the job had already.

    expand: lists become their videos. Raises `NotFound`, `Conflict`, `Invalid` or `TooLarge`.
    """
    # The job before its uploads, as deletion does, so that the two never wait for each other.
    lock_to_grow(connection, project_id, job_id)
    new, repeated = new_sources(connection, project_id, settings, urls)
    known = add_sources(connection, job_id, new, list_levels=list_levels(expand))
    if len(known) < len(new):
        tasks.next_round(connection, job_id)
        tasks.add_keyframes_tasks(connection, job_id)
        tasks.advance(connection, job_id)
    return list(dict.fromkeys([*repeated, *known]))


def remove(database: Database, blobs: BlobStore, project_id: str, job_id: str, source_id: str) -> None:
    """Take one source out of a job, with what only it brought. Raises `NotFound`, or `Conflict` for the last one."""

    def act(connection: Connection) -> list[str]:
        _lock(connection, project_id, job_id)
        _require_source(connection, job_id, source_id)
        return _remove(connection, job_id, [source_id])

    delete_blobs(blobs, database.retrying(act, after=is_conflict))


def remove_failed(database: Database, blobs: BlobStore, project_id: str, job_id: str) -> int:
    """Take every source out of a job whose reading failed. Returns how many.

    Raises `NotFound`, or `Conflict` when that would be all of them.
    """

    def act(connection: Connection) -> tuple[list[str], int]:
        _lock(connection, project_id, job_id)
        failed = list(
            connection.execute(
                text(
                    """SELECT s.id FROM sources s JOIN tasks t ON t.source_id = s.id
                    WHERE s.job_id = :job AND t.state = :failed"""
                ),
                {"job": job_id, "failed": TaskState.FAILED},
            ).scalars()
        )
        return (_remove(connection, job_id, failed) if failed else []), len(failed)

    names, removed = database.retrying(act, after=is_conflict)
    delete_blobs(blobs, names)
    return removed


def correct(
    database: Database,
    blobs: BlobStore,
    project_id: str,
    settings: Settings,
    job_id: str,
    source_id: str,
    url: str,
    *,
    expand: bool,
) -> None:
    """Put another URL in the place of a source, which is read anew.

    Raises `NotFound`, `Conflict` when the job is cancelled, or `Invalid` naming `url`.
    """

    def act(connection: Connection) -> list[str]:
        lock_to_grow(connection, project_id, job_id)
        _require_source(connection, job_id, source_id)
        try:
            [new], _ = new_sources(connection, project_id, settings, [url])
        except Invalid as invalid:
            raise Invalid([("url", message) for _, message in invalid.errors]) from invalid
        clash = connection.execute(
            text("SELECT FROM sources WHERE job_id = :job AND url = :url AND id <> :id"),
            {"job": job_id, "url": new.url, "id": source_id},
        ).first()
        if clash is not None:
            raise Invalid([("url", "the job has this URL already")])
        names = _leave(
            connection,
            job_id,
            [source_id],
            """UPDATE sources SET url = :url, host = :host, title = :title, list_levels = :levels, expanded_into = NULL,
            video_id = NULL, extraction_id = NULL WHERE id = ANY(CAST(:ids AS uuid[]))""",
            url=new.url,
            host=new.host,
            title=new.title,
            levels=list_levels(expand),
        )
        tasks.next_round(connection, job_id)
        tasks.add_keyframes_tasks(connection, job_id)
        tasks.advance(connection, job_id)
        return names

    delete_blobs(blobs, database.retrying(act, after=is_conflict))


def _lock(connection: Connection, project_id: str, job_id: str) -> None:
    require_job(connection, project_id, job_id)
    if tasks.lock_whole_job(connection, job_id) is None:
        raise job_not_found(job_id)


def _require_source(connection: Connection, job_id: str, source_id: str) -> None:
    found = connection.execute(
        text("SELECT FROM sources WHERE job_id = :job AND id = CAST(:id AS uuid)"), {"job": job_id, "id": source_id}
    ).first()
    if found is None:
        raise NotFound(f"This job has no source {source_id}.", "source_id")


def _remove(connection: Connection, job_id: str, source_ids: Sequence[str]) -> list[str]:
    state = tasks.lock_job(connection, job_id)
    left = connection.execute(
        text("SELECT count(*) FROM sources WHERE job_id = :job"), {"job": job_id}
    ).scalar_one() - len(source_ids)
    if not left:
        raise Conflict("A job keeps at least one source; correct it, or delete the job.")
    names = _leave(connection, job_id, source_ids, "DELETE FROM sources WHERE id = ANY(CAST(:ids AS uuid[]))")
    if state is not JobState.CANCELLED:
        tasks.next_round(connection, job_id)
        tasks.advance(connection, job_id)
    return names


def _leave(
    connection: Connection, job_id: str, source_ids: Sequence[str], statement: str, **values: object
) -> list[str]:
    """Have what these sources brought leave the job, by the statement that takes them out of `sources`.

    Clusterings that hold something of it go too: each round makes its own again, and those that a person asked for are
    run again. Returns the names of the blobs that no row names any more.
    """
    connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'"))
    used = hold_used(connection, "id = ANY(CAST(:ids AS uuid[]))", ids=list(source_ids))
    tasks.forget_sources(connection, source_ids)
    connection.execute(text(statement), {"ids": list(source_ids), **values})
    gone = list(
        connection.execute(
            text(
                """SELECT v.id FROM unnest(CAST(:videos AS uuid[])) AS v (id)
                WHERE NOT EXISTS (SELECT FROM sources s WHERE s.job_id = :job AND s.video_id = v.id)"""
            ),
            {"job": job_id, "videos": used.video_ids},
        ).scalars()
    )
    if gone:
        tasks.forget_videos(connection, job_id, gone)
        _cluster_without(connection, job_id, gone)
    return delete_unused(connection, used)


def _cluster_without(connection: Connection, job_id: str, video_ids: Sequence[str]) -> None:
    stale = connection.execute(
        text(
            """
            SELECT c.id, c.asked FROM clusterings c JOIN tasks t ON t.clustering_id = c.id WHERE c.job_id = :job AND (
                t.state IN ('queued', 'running')
                OR EXISTS (SELECT FROM assignments a JOIN key_frames k ON k.id = a.key_frame_id
                           JOIN extractions x ON x.id = k.extraction_id
                           WHERE a.clustering_id = c.id AND x.video_id = ANY(CAST(:videos AS uuid[]))))"""
        ),
        {"job": job_id, "videos": list(video_ids)},
    ).all()
    connection.execute(
        text("DELETE FROM clusterings WHERE id = ANY(CAST(:ids AS uuid[]))"),
        {"ids": [row.id for row in stale if not row.asked]},
    )
    for row in stale:
        if row.asked:
            tasks.cluster_again(connection, job_id, row.id)

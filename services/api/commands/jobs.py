"""Submits jobs and lets them grow, be cancelled and be tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.commands.new_sources import list_levels, new_sources
from services.api.problems import Conflict
from services.api.queries.jobs import job_not_found, require_job
from services.api.schemas.requests import JobRequest
from shared import tasks
from shared.settings import Settings
from shared.sources import NewSource, add_sources
from shared.tables import jobs
from shared.tasks import JobState


def check_job(
    connection: Connection, project_id: str, settings: Settings, request: JobRequest, coming: Collection[str] = ()
) -> None:
    """Raise what `submit_job` would raise, and write nothing.

    coming: ids of uploads whose bytes are still to be stored.
    """
    _checked(connection, project_id, settings, request, coming)


def submit_job(
    connection: Connection, project_id: str, settings: Settings, request: JobRequest
) -> tuple[str, list[str]]:
    """Write a job, its sources and their first tasks. Returns the job's id and the URLs that were repeated.

    Raises `Invalid` or `TooLarge` naming the fields.
    """
    values, new, repeated = _checked(connection, project_id, settings, request)
    job_id: str = connection.execute(
        insert(jobs).values(project_id=project_id, name=request.name, **values).returning(jobs.c.id)
    ).scalar_one()
    add_sources(connection, job_id, new, list_levels=list_levels(request.expand))
    tasks.add_keyframes_tasks(connection, job_id)
    return job_id, repeated


def _checked(
    connection: Connection, project_id: str, settings: Settings, request: JobRequest, coming: Collection[str] = ()
) -> tuple[dict[str, Any], list[NewSource], list[str]]:
    """What the job's row will say, its sources, and the URLs that were repeated."""
    key_frames = catalog_checks.key_frame_settings(request.key_frames.model_dump(), "key_frames")
    clustering = catalog_checks.clustering_settings(request.clustering.model_dump(), "clustering")
    new, repeated = new_sources(connection, project_id, settings, request.videos, coming)
    models = _models_of(connection, settings, request.models)
    return {"models": models, "key_frames": key_frames, "clustering": clustering}, new, repeated


def _models_of(connection: Connection, settings: Settings, asked: Sequence[str] | None) -> list[str]:
    """The models asked for, each once; those of every job when none are. Raises `Invalid`."""
    if not asked:
        return catalog_checks.default_models(connection, settings)
    catalog_checks.check_models(connection, settings, [(f"models.{i}", name) for i, name in enumerate(asked)])
    return list(dict.fromkeys(asked))


def add_models(connection: Connection, project_id: str, settings: Settings, job_id: str, names: Sequence[str]) -> None:
    """Add models to a job that is not cancelled; what has vectors already is only clustered.

    Raises `NotFound`, `Conflict` or `Invalid`.
    """
    names = _models_of(connection, settings, names)
    lock_to_grow(connection, project_id, job_id)
    models = connection.execute(text("SELECT models FROM jobs WHERE id = :job"), {"job": job_id}).scalar_one()
    grown = list(dict.fromkeys([*models, *names]))
    if grown == models:
        return
    connection.execute(jobs.update().where(jobs.c.id == job_id).values(models=grown))
    tasks.next_round(connection, job_id)
    tasks.add_embedding_tasks(connection, job_id)
    tasks.advance(connection, job_id)


def lock_to_grow(connection: Connection, project_id: str, job_id: str) -> None:
    """Have a job to ourselves that may grow. Raises `NotFound`, or `Conflict` when it is cancelled."""
    require_job(connection, project_id, job_id)
    state = tasks.lock_whole_job(connection, job_id)
    if state is None:
        raise job_not_found(job_id)
    if state is JobState.CANCELLED:
        raise Conflict("This job is cancelled, and a cancelled job does not grow; retry it first, or submit a new one.")


def cancel_job(connection: Connection, project_id: str, job_id: str) -> None:
    """Cancel what is open of a job; a job that is final already stays as it is. Raises `NotFound`."""
    require_job(connection, project_id, job_id)
    tasks.cancel_job(connection, job_id)


def retry_job(connection: Connection, project_id: str, job_id: str) -> None:
    """Try again what failed or was cancelled. Raises `NotFound`, or `Conflict` when there is nothing of the kind."""
    require_job(connection, project_id, job_id)
    if tasks.lock_whole_job(connection, job_id) is None:
        raise job_not_found(job_id)
    to_do = connection.execute(
        text(
            f"""
            SELECT EXISTS (
                SELECT FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN clusterings c ON c.id = t.clustering_id
                WHERE t.job_id = :job AND t.state IN ('failed', 'cancelled') AND {tasks.COUNTS_NOW})"""
        ),
        {"job": job_id},
    ).scalar_one()
    if not to_do:
        raise Conflict("Nothing of this job has failed or was cancelled, so there is nothing to try again.")
    tasks.retry_job(connection, job_id)
    tasks.advance(connection, job_id)

"""Submits jobs and lets them grow, be cancelled and be tried again."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.problems import Conflict, FieldError, Invalid, TooLarge
from services.api.queries.jobs import job_not_found, require_job
from services.api.schemas import MAX_URLS, JobRequest
from shared import tasks
from shared.errors import PermanentError
from shared.settings import Place, Settings
from shared.tables import jobs
from shared.tasks import JobState
from shared.urls import BUCKET_SCHEME, UPLOAD_SCHEME, SourceUrl, not_opened, parse_source_url


@dataclass(frozen=True)
class NewSource:
    """A source to be: `title` and `host` as the `sources` table has them."""

    url: str
    host: str | None
    title: str | None


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
    _insert_sources(connection, job_id, new)
    tasks.add_keyframes_tasks(connection, job_id)
    return job_id, repeated


def _checked(
    connection: Connection, project_id: str, settings: Settings, request: JobRequest, coming: Collection[str] = ()
) -> tuple[dict[str, Any], list[NewSource], list[str]]:
    """What the job's row will say, its sources, and the URLs that were repeated."""
    key_frames = catalog_checks.key_frame_settings(request.key_frames.model_dump(), "key_frames")
    clustering = catalog_checks.clustering_settings(request.clustering.model_dump(), "clustering")
    new, repeated = _new_sources(connection, project_id, settings, request.videos, coming)
    models = catalog_checks.default_models(request.models)
    catalog_checks.check_models(connection, settings, _model_fields(request.models, models))
    return {"models": models, "key_frames": key_frames, "clustering": clustering}, new, repeated


def _model_fields(given: Sequence[str] | None, models: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"models.{i}", name) for i, name in enumerate(given)] if given else [("models", name) for name in models]


def check_sources(
    connection: Connection,
    project_id: str,
    settings: Settings,
    job_id: str,
    urls: Sequence[str],
    coming: Collection[str] = (),
) -> None:
    """Raise what `add_sources` would raise, and write nothing. coming: as in `check_job`."""
    _lock_to_grow(connection, project_id, job_id)
    _new_sources(connection, project_id, settings, urls, coming)


def add_sources(
    connection: Connection, project_id: str, settings: Settings, job_id: str, urls: Sequence[str]
) -> list[str]:
    """Add URLs to a job that is not cancelled. Returns those that were repeated or there already.

    Raises `NotFound`, `Conflict`, `Invalid` or `TooLarge`.
    """
    # The job before its uploads, as deletion does, so that the two never wait for each other.
    _lock_to_grow(connection, project_id, job_id)
    new, repeated = _new_sources(connection, project_id, settings, urls)
    there = _insert_sources(connection, job_id, new)
    if len(there) < len(new):
        tasks.next_round(connection, job_id)
        tasks.add_keyframes_tasks(connection, job_id)
        tasks.advance(connection, job_id)
    return list(dict.fromkeys([*repeated, *there]))


def add_models(connection: Connection, project_id: str, settings: Settings, job_id: str, names: Sequence[str]) -> None:
    """Add models to a job that is not cancelled; what has vectors already is only clustered.

    Raises `NotFound`, `Conflict` or `Invalid`.
    """
    catalog_checks.check_models(connection, settings, _model_fields(names, ()))
    _lock_to_grow(connection, project_id, job_id)
    models = connection.execute(text("SELECT models FROM jobs WHERE id = :job"), {"job": job_id}).scalar_one()
    grown = list(dict.fromkeys([*models, *names]))
    if grown == models:
        return
    connection.execute(jobs.update().where(jobs.c.id == job_id).values(models=grown))
    tasks.next_round(connection, job_id)
    tasks.add_embedding_tasks(connection, job_id)
    tasks.advance(connection, job_id)


def _lock_to_grow(connection: Connection, project_id: str, job_id: str) -> None:
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
            """
            SELECT EXISTS (
                SELECT FROM tasks t JOIN jobs j ON j.id = t.job_id LEFT JOIN clusterings c ON c.id = t.clustering_id
                WHERE t.job_id = :job AND t.state IN ('failed', 'cancelled')
                  AND (t.clustering_id IS NULL OR (NOT c.asked AND c.round = j.round)))"""
        ),
        {"job": job_id},
    ).scalar_one()
    if not to_do:
        raise Conflict("Nothing of this job has failed or was cancelled, so there is nothing to try again.")
    tasks.retry_job(connection, job_id)
    tasks.advance(connection, job_id)


# --- Sources ------------------------------------------------------------------------------------------------------


def _new_sources(
    connection: Connection, project_id: str, settings: Settings, urls: Sequence[str], coming: Collection[str] = ()
) -> tuple[list[NewSource], list[str]]:
    """One source for each different URL, and the URLs that were named more than once."""
    if len(urls) > MAX_URLS:
        sentence = f"at most {MAX_URLS} URLs in one call, not {len(urls)}; send the rest to POST /jobs/{{id}}/sources"
        raise TooLarge(f"videos: {sentence}", [("videos", sentence)])
    parsed, errors = _parse(urls, settings.s3_source_places)
    file_names = dict.fromkeys(coming, "")
    file_names |= _upload_names(connection, project_id, (u.target for _, u in parsed if u.scheme == UPLOAD_SCHEME))
    found: dict[str, NewSource] = {}
    repeated: dict[str, None] = {}
    for field, url in parsed:
        if url.url in found:
            repeated[url.url] = None
        elif url.scheme != UPLOAD_SCHEME:
            found[url.url] = NewSource(url.url, url.limit_key, None)
        elif url.target in file_names:
            found[url.url] = NewSource(url.url, None, file_names[url.target])
        else:
            errors.append((field, f"there is no upload {url.target}; upload the file first (POST /uploads)"))
    if errors:
        raise Invalid(errors)
    return list(found.values()), list(repeated)


def _parse(urls: Sequence[str], places: Sequence[Place]) -> tuple[list[tuple[str, SourceUrl]], list[FieldError]]:
    parsed: list[tuple[str, SourceUrl]] = []
    errors: list[FieldError] = []
    for index, url in enumerate(urls):
        field = f"videos.{index}"
        try:
            source = parse_source_url(url)
            if source.scheme == BUCKET_SCHEME and not source.is_in(places):
                raise not_opened(source)
            parsed.append((field, source))
        except PermanentError as error:
            errors.append((field, error.message))
    return parsed, errors


def _upload_names(connection: Connection, project_id: str, upload_ids: Iterable[str]) -> dict[str, str]:
    """File names of those uploads that exist; they stay until this transaction ends."""
    ids = sorted({upload_id for upload_id in upload_ids if _is_canonical_uuid(upload_id)})
    if not ids:
        return {}
    rows = connection.execute(
        text(
            """SELECT id, file_name FROM uploads WHERE project_id = :project AND id = ANY(CAST(:ids AS uuid[]))
            ORDER BY id FOR SHARE"""
        ),
        {"project": project_id, "ids": ids},
    )
    return {row.id: row.file_name for row in rows}


def _is_canonical_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _insert_sources(connection: Connection, job_id: str, new: Sequence[NewSource]) -> list[str]:
    """Write those sources that the job does not have, in order, behind those it has. Returns the URLs it had."""
    there = set(
        connection.execute(
            text("SELECT url FROM sources WHERE job_id = :job AND url = ANY(:urls)"),
            {"job": job_id, "urls": [source.url for source in new]},
        ).scalars()
    )
    missing = [source for source in new if source.url not in there]
    if missing:
        connection.execute(
            text(
                """
                INSERT INTO sources (job_id, position, url, host, title)
                SELECT :job, first.position + given.number - 1, given.url, given.host, given.title
                FROM unnest(CAST(:urls AS text[]), CAST(:hosts AS text[]), CAST(:titles AS text[]))
                     WITH ORDINALITY AS given (url, host, title, number),
                     (SELECT coalesce(max(position) + 1, 0) AS position FROM sources WHERE job_id = :job) AS first"""
            ),
            {
                "job": job_id,
                "urls": [source.url for source in missing],
                "hosts": [source.host for source in missing],
                "titles": [source.title for source in missing],
            },
        )
    return [source.url for source in new if source.url in there]

"""Search by example: the key frames whose vectors are nearest to a key frame's or a query picture's, exactly."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from services.api import cursors
from services.api.cursors import Page, cut
from services.api.problems import FieldError, Invalid, NotFound, invalid
from services.api.queries.key_frames import with_distances
from services.api.queries.sources import failure
from services.api.schemas.answers import Failure, KeyFrameAt
from shared.tasks import TaskState

_VECTOR_OF_KEY_FRAME = "SELECT vector FROM embeddings WHERE key_frame_id = :example AND model = :model"
_VECTOR_OF_QUERY = "SELECT vector FROM queries WHERE id = :example"


@dataclass(frozen=True)
class QueryPicture:
    """A picture that was sent to search with. `ready`: it has its vector. blob: the picture."""

    id: str
    model: str
    blob: str
    ready: bool
    state: TaskState
    error: Failure | None

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come."""
        return self.ready or self.state is TaskState.FAILED


def get_query(connection: Connection, project_id: str, query_id: str) -> QueryPicture:
    """Raises `NotFound`."""
    row = connection.execute(
        text(
            """SELECT q.id, q.model, q.blob, q.vector IS NOT NULL AS ready, t.state, t.error_kind, t.error
            FROM queries q JOIN tasks t ON t.query_id = q.id WHERE q.id = :id AND q.project_id = :project"""
        ),
        {"id": query_id, "project": project_id},
    ).one_or_none()
    if row is None:
        raise NotFound(f"There is no search {query_id}.", "query_id")
    return QueryPicture(row.id, row.model, row.blob, row.ready, TaskState(row.state), failure(row))


def check_jobs(connection: Connection, project_id: str, job_ids: Sequence[str] | None) -> None:
    """Raises `Invalid` naming those that the project does not have."""
    if not job_ids:
        return
    known = set(
        connection.execute(
            text("SELECT id FROM jobs WHERE project_id = :project AND id = ANY(CAST(:ids AS uuid[]))"),
            {"project": project_id, "ids": list(job_ids)},
        ).scalars()
    )
    errors: list[FieldError] = [
        (f"jobs.{index}", f"there is no job {job_id}") for index, job_id in enumerate(job_ids) if job_id not in known
    ]
    if errors:
        raise Invalid(errors)


def models_of_jobs(connection: Connection, project_id: str, job_ids: Sequence[str] | None) -> list[str]:
    """The models of these jobs, or of all of the project's; those of the newest job first."""
    rows = connection.execute(
        text(
            f"""SELECT models FROM jobs WHERE project_id = :project
            {"AND id = ANY(CAST(:ids AS uuid[]))" if job_ids else ""} ORDER BY created_at DESC, id"""
        ),
        {"project": project_id, "ids": list(job_ids or ())},
    ).scalars()
    return list(dict.fromkeys(model for models in rows for model in models))


def model_of_key_frame(
    connection: Connection,
    project_id: str,
    key_frame_id: str,
    model: str | None,
    job_ids: Sequence[str] | None = None,
) -> str:
    """`model` if the key frame has its vector; when left out, the first of its job's models that it has one of.

    job_ids: those that are searched. One of them that has the key frame comes first, then the others, because there is
    nothing to find under a model that they do not have; of several, the newest. Raises `Invalid`.
    """
    models = set(
        connection.execute(
            text("SELECT model FROM embeddings WHERE key_frame_id = :id"), {"id": key_frame_id}
        ).scalars()
    )
    if not models:
        invalid("key_frame_id", "this key frame has no vector yet; search again when its job went further")
    if model is None:
        wanted = _models_of_key_frame(connection, project_id, key_frame_id, job_ids)
        if job_ids:
            wanted += models_of_jobs(connection, project_id, job_ids)
            wanted += _models_of_key_frame(connection, project_id, key_frame_id, None)
        return next((name for name in wanted if name in models), min(models))
    if model not in models:
        invalid("model", f"this key frame has no vector of {model!r}; it has those of: {', '.join(sorted(models))}")
    return model


def _models_of_key_frame(
    connection: Connection, project_id: str, key_frame_id: str, job_ids: Sequence[str] | None
) -> list[str]:
    """The models of the jobs that have the key frame, in each job's order; those of the newest job first."""
    rows = connection.execute(
        text(
            f"""
            SELECT j.models FROM jobs j
            WHERE j.project_id = :project AND j.id IN (
                SELECT s.job_id FROM sources s JOIN key_frames k ON k.extraction_id = s.extraction_id
                WHERE k.id = :key_frame)
            {"AND j.id = ANY(CAST(:jobs AS uuid[]))" if job_ids else ""} ORDER BY j.created_at DESC, j.id"""
        ),
        {"project": project_id, "key_frame": key_frame_id, "jobs": list(job_ids or ())},
    ).scalars()
    return [model for models in rows for model in models]


def nearest_to_key_frame(
    connection: Connection,
    project_id: str,
    key_frame_id: str,
    model: str,
    job_ids: Sequence[str] | None,
    limit: int,
    cursor: str | None = None,
) -> Page[KeyFrameAt]:
    """Key frames of these jobs by cosine distance to this one, without it. Raises `Invalid` for a wrong cursor."""
    return _nearest(connection, project_id, _VECTOR_OF_KEY_FRAME, key_frame_id, model, job_ids, limit, cursor)


def nearest_to_query(
    connection: Connection,
    project_id: str,
    query: QueryPicture,
    job_ids: Sequence[str] | None,
    limit: int,
    cursor: str | None = None,
) -> Page[KeyFrameAt]:
    """Key frames of these jobs by cosine distance to a picture that has its vector. Raises as the other."""
    return _nearest(connection, project_id, _VECTOR_OF_QUERY, query.id, query.model, job_ids, limit, cursor)


def _nearest(
    connection: Connection,
    project_id: str,
    vector: str,
    example_id: str,
    model: str,
    job_ids: Collection[str] | None,
    limit: int,
    cursor: str | None,
) -> Page[KeyFrameAt]:
    values: dict[str, Any] = {"example": example_id, "model": model, "project": project_id, "limit": limit + 1}
    after = ""
    if cursor:
        after = "AND (distance, key_frame_id) > (CAST(:distance AS float8), CAST(:id AS uuid))"
        values["distance"], values["id"] = cursors.decode(cursor, cursors.distance, cursors.identifier)
    rows = connection.execute(
        text(
            f"""
            WITH example AS MATERIALIZED ({vector}),
            seen AS MATERIALIZED (
                SELECT DISTINCT s.extraction_id FROM sources s JOIN jobs j ON j.id = s.job_id
                WHERE j.project_id = :project AND s.extraction_id IS NOT NULL
                {"AND j.id = ANY(CAST(:jobs AS uuid[]))" if job_ids else ""}
            )
            SELECT * FROM (
                SELECT k.id AS key_frame_id, e.vector <=> example.vector AS distance
                FROM seen JOIN key_frames k ON k.extraction_id = seen.extraction_id
                JOIN embeddings e ON e.key_frame_id = k.id AND e.model = :model, example
                WHERE k.id <> :example
            ) measured
            -- A vector of zeros has no direction, and its distance is no number.
            WHERE distance <> 'NaN' {after} ORDER BY distance, key_frame_id LIMIT :limit"""
        ),
        {**values, "jobs": list(job_ids or ())},
    ).all()
    kept, next_cursor = cut(rows, limit, lambda row: (row.distance, row.key_frame_id))
    return Page(with_distances(connection, project_id, kept, job_ids or None), next_cursor)

"""Clusterings that a person asks for, names and deletes."""

from __future__ import annotations

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.commands.deletion import STATEMENT_TIMEOUT_S
from services.api.problems import Conflict, invalid
from services.api.queries.clusterings import get_clustering
from services.api.queries.jobs import job_not_found
from services.api.schemas.requests import ClusteringRequest
from shared import catalog, tasks
from shared.tables import clusterings
from shared.tasks import OPEN_TASK_STATES


def ask_for(connection: Connection, project_id: str, job_id: str, request: ClusteringRequest) -> str:
    """Write another clustering of the job's vectors as they will be, and its task. Returns the clustering's id.

    When there is one already of the same vectors by the same settings, it is the answer.
    Raises `NotFound`, or `Invalid` naming the field.
    """
    settings = catalog_checks.clustering_settings(request.model_dump(exclude={"model", "name"}))
    tasks.share_jobs(connection, [job_id])
    job = connection.execute(
        text("SELECT round, models FROM jobs WHERE id = :job AND project_id = :project"),
        {"job": job_id, "project": project_id},
    ).one_or_none()
    if job is None:
        raise job_not_found(job_id)
    model, settings_key = _model(request.model, job.models), catalog.canonical_sha256(settings)
    same = tasks.find_clustering(connection, job_id, model, settings_key, also_asked=True)
    if same:
        if request.name:
            _set_name(connection, same, request.name)
        return same
    clustering_id: str = connection.execute(
        insert(clusterings)
        .values(
            job_id=job_id,
            round=job.round,
            model=model,
            settings=settings,
            settings_key=settings_key,
            name=request.name,
            asked=True,
        )
        .returning(clusterings.c.id)
    ).scalar_one()
    tasks.add_clustering_task(connection, job_id, clustering_id)
    return clustering_id


def rename(connection: Connection, project_id: str, clustering_id: str, name: str) -> None:
    """Call a clustering by another name, or by none when it is empty. Raises `NotFound`."""
    get_clustering(connection, project_id, clustering_id)
    _set_name(connection, clustering_id, name)


def _set_name(connection: Connection, clustering_id: str, name: str) -> None:
    connection.execute(clusterings.update().where(clusterings.c.id == clustering_id).values(name=name))


def delete(connection: Connection, project_id: str, clustering_id: str) -> str:
    """Delete a clustering with its clusters; the key frames and their vectors stay. Returns the id of its job.

    Raises `NotFound`, or `Conflict` while the job waits for it: it would be made again at once.
    """
    clustering = get_clustering(connection, project_id, clustering_id)
    tasks.share_jobs(connection, [clustering.job_id])
    # The task first, as everywhere: a worker that is saving is waited for, and one that would save later is fenced.
    state = connection.execute(
        text("SELECT state FROM tasks WHERE clustering_id = :id FOR UPDATE"), {"id": clustering_id}
    ).scalar()
    if not clustering.asked and (state in OPEN_TASK_STATES or _is_wanted(connection, clustering_id)):
        raise Conflict("The job still wants this clustering. Wait until the job is done, or cancel it first.")
    connection.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT_S}s'"))
    connection.execute(clusterings.delete().where(clusterings.c.id == clustering_id))
    return clustering.job_id


def _is_wanted(connection: Connection, clustering_id: str) -> bool:
    """Whether it is of the round that its job is at, which would make it again when another of its tasks ends."""
    wanted: bool = connection.execute(
        text(
            """SELECT EXISTS (
                SELECT FROM clusterings c JOIN jobs j ON j.id = c.job_id AND j.round = c.round
                WHERE c.id = :id AND j.state IN ('queued', 'running'))"""
        ),
        {"id": clustering_id},
    ).scalar_one()
    return wanted


def _model(model: str | None, models: list[str]) -> str:
    if model is None:
        if len(models) > 1:
            invalid("model", f"this job has several models, so say which: {', '.join(models)}")
        return models[0]
    if model not in models:
        invalid(
            "model",
            f"this job has no model {model!r}; it has: {', '.join(models)}. POST /jobs/{{id}}/models adds another",
        )
    return model

"""Clusterings that a person asks for."""

from __future__ import annotations

from sqlalchemy import Connection, insert, text

from services.api.commands import catalog_checks
from services.api.problems import invalid
from services.api.queries.jobs import job_not_found
from services.api.schemas import ClusteringRequest
from shared import catalog, tasks
from shared.tables import clusterings


def ask_for(connection: Connection, project_id: str, job_id: str, request: ClusteringRequest) -> str:
    """Write another clustering of the job's vectors as they will be, and its task. Returns the clustering's id.

    Raises `NotFound`, or `Invalid` naming the field.
    """
    settings = catalog_checks.clustering_settings(request.model_dump(exclude={"model"}))
    tasks.share_jobs(connection, [job_id])
    job = connection.execute(
        text("SELECT round, models FROM jobs WHERE id = :job AND project_id = :project"),
        {"job": job_id, "project": project_id},
    ).one_or_none()
    if job is None:
        raise job_not_found(job_id)
    clustering_id: str = connection.execute(
        insert(clusterings)
        .values(
            job_id=job_id,
            round=job.round,
            model=_model(request.model, job.models),
            settings=settings,
            settings_key=catalog.canonical_sha256(settings),
            asked=True,
        )
        .returning(clusterings.c.id)
    ).scalar_one()
    tasks.add_clustering_task(connection, job_id, clustering_id)
    return clustering_id


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

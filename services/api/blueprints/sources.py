"""The sources of a job: list, add, correct, remove."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, current_app
from sqlalchemy import Connection

from services.api import paths
from services.api.blueprints.jobs import accept_job
from services.api.commands import sources as commands
from services.api.context import current_project_id, service, transaction
from services.api.queries import sources as queries
from services.api.schemas.answers import AcceptedJob, RemovedSources, SourceList
from services.api.schemas.requests import (
    IdempotencyHeaders,
    RemovedState,
    SourceCorrection,
    SourcesPaging,
    SourcesRequest,
)

blueprint = APIBlueprint("sources", __name__, url_prefix=paths.API, tag="Jobs")


@blueprint.get("/jobs/<id:job_id>/sources")
@blueprint.input(SourcesPaging, location="query")
@blueprint.output(SourceList)
def list_sources(job_id: str, query_data: SourcesPaging) -> SourceList:
    """List the sources of a job, each with its outcome"""
    with transaction() as connection:
        page = queries.list_sources(connection, current_project_id(), job_id, **dict(query_data))
    return SourceList(sources=page.items, next_cursor=page.next_cursor)


@blueprint.post("/jobs/<id:job_id>/sources")
@blueprint.doc(responses=[409])
@blueprint.input(IdempotencyHeaders, location="headers")
@blueprint.input(SourcesRequest)
@blueprint.output(AcceptedJob, 202)
def add_sources(job_id: str, json_data: SourcesRequest, headers_data: IdempotencyHeaders) -> Response:
    """Add videos to a job"""

    def act(connection: Connection) -> tuple[str, list[str]]:
        return job_id, commands.add(
            connection,
            current_project_id(),
            service().settings,
            job_id,
            json_data.videos,
            expand=json_data.expand,
        )

    return accept_job(act, headers_data.idempotency_key)


@blueprint.patch("/jobs/<id:job_id>/sources/<id:source_id>")
@blueprint.doc(responses=[409])
@blueprint.input(SourceCorrection)
@blueprint.output(AcceptedJob, 202)
def correct_source(job_id: str, source_id: str, json_data: SourceCorrection) -> Response:
    """Put another URL in the place of a source"""
    commands.correct(
        service().database,
        service().blobs,
        current_project_id(),
        service().settings,
        job_id,
        source_id,
        json_data.url,
        expand=json_data.expand,
    )
    return accept_job(lambda _: (job_id, []))


@blueprint.delete("/jobs/<id:job_id>/sources/<id:source_id>")
@blueprint.doc(responses=[409])
@blueprint.output({}, 204)
def remove_source(job_id: str, source_id: str) -> Response:
    """Take a source out of a job, with what only it brought"""
    commands.remove(service().database, service().blobs, current_project_id(), job_id, source_id)
    return current_app.response_class(status=204)


@blueprint.delete("/jobs/<id:job_id>/sources")
@blueprint.doc(responses=[409])
@blueprint.input(RemovedState, location="query")
@blueprint.output(RemovedSources)
def remove_sources(job_id: str, query_data: RemovedState) -> RemovedSources:
    """Take every source out of a job that failed

    `state=failed` has to be said, so that nothing is removed by a slip.
    """
    removed = commands.remove_failed(service().database, service().blobs, current_project_id(), job_id)
    return RemovedSources(removed=removed)

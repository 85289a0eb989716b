"""Jobs: submit, watch, grow, cancel, try again, delete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from apiflask import APIBlueprint
from flask import Response, current_app, make_response, request
from sqlalchemy import Connection

from services.api import paths, replies
from services.api.commands import deletion
from services.api.commands import jobs as commands
from services.api.commands.idempotency import Reply
from services.api.context import current_project_id, service, transaction
from services.api.queries import jobs as queries
from services.api.queries import key_frames as key_frame_queries
from services.api.schemas.answers import AcceptedJob, Job, JobList, KeyFramesByTime
from services.api.schemas.requests import (
    DryRun,
    IdempotencyHeaders,
    IfNoneMatchHeaders,
    JobRequest,
    JobsPaging,
    ModelsRequest,
    Paging,
)
from shared.tables import jobs

blueprint = APIBlueprint("jobs", __name__, url_prefix=paths.API, tag="Jobs")


@blueprint.post("/jobs")
@blueprint.input(IdempotencyHeaders, location="headers")
@blueprint.input(DryRun, location="query")
@blueprint.input(JobRequest)
@blueprint.output(AcceptedJob, 202)
@blueprint.doc(responses={204: "What was sent can be submitted; nothing was done (`dry_run`)."})
def submit_job(json_data: JobRequest, query_data: DryRun, headers_data: IdempotencyHeaders) -> Response:
    """Submit a job

    With `dry_run`, what would be refused is refused, and else nothing is done: to know before files are uploaded. Its
    uploads may then be still to come.
    """
    if query_data.dry_run:
        coming = [url.removeprefix("upload:") for url in json_data.videos if url.startswith("upload:")]
        with transaction() as connection:
            commands.check_job(connection, current_project_id(), service().settings, json_data, coming)
        return current_app.response_class(status=204)

    def act(connection: Connection) -> tuple[str, list[str]]:
        return commands.submit_job(connection, current_project_id(), service().settings, json_data)

    return accept_job(act, headers_data.idempotency_key)


@blueprint.get("/jobs")
@blueprint.input(JobsPaging, location="query")
@blueprint.output(JobList)
def list_jobs(query_data: JobsPaging) -> JobList:
    """List jobs, newest first"""
    with transaction() as connection:
        page = queries.list_jobs(connection, current_project_id(), **dict(query_data))
    return JobList(jobs=page.items, next_cursor=page.next_cursor)


@blueprint.get("/jobs/<id:job_id>")
@blueprint.doc(responses=[304])
@blueprint.input(IfNoneMatchHeaders, location="headers")
@blueprint.output(Job)
def get_job(job_id: str, headers_data: IfNoneMatchHeaders) -> Response:
    """Watch one job

    The ETag leaves out the ETA and the time of work, so that a job at which nothing happened answers 304.
    """
    with transaction() as connection:
        job = queries.get_job(connection, current_project_id(), job_id)
    body = job.model_dump(mode="json")
    response = make_response(body)
    versioned = json.dumps({**body, "eta_s": None, "worked_s": None}, sort_keys=True)
    response.set_etag(hashlib.sha256(versioned.encode()).hexdigest()[:32], weak=True)
    response.cache_control.no_cache = True
    response.make_conditional(request)
    return response


@blueprint.delete("/jobs/<id:job_id>")
@blueprint.output({}, 204)
def delete_job(job_id: str) -> Response:
    """Delete a job and what only it uses"""
    deletion.delete_job(service().database, service().blobs, current_project_id(), job_id)
    return current_app.response_class(status=204)


@blueprint.get("/jobs/<id:job_id>/key-frames")
@blueprint.input(Paging, location="query")
@blueprint.output(KeyFramesByTime)
def list_key_frames(job_id: str, query_data: Paging) -> KeyFramesByTime:
    """List the key frames of a job, video by video as they were submitted, each by time"""
    with transaction() as connection:
        page = key_frame_queries.list_of_job(connection, current_project_id(), job_id, **dict(query_data))
    return KeyFramesByTime(key_frames=page.items, next_cursor=page.next_cursor)


@blueprint.post("/jobs/<id:job_id>/models")
@blueprint.doc(responses=[409])
@blueprint.input(IdempotencyHeaders, location="headers")
@blueprint.input(ModelsRequest)
@blueprint.output(AcceptedJob, 202)
def add_models(job_id: str, json_data: ModelsRequest, headers_data: IdempotencyHeaders) -> Response:
    """Add models to a job"""

    def act(connection: Connection) -> tuple[str, list[str]]:
        commands.add_models(connection, current_project_id(), service().settings, job_id, json_data.models)
        return job_id, []

    return accept_job(act, headers_data.idempotency_key)


@blueprint.post("/jobs/<id:job_id>/cancel")
@blueprint.output(AcceptedJob, 202)
def cancel_job(job_id: str) -> Response:
    """Cancel what is open of a job"""

    def act(connection: Connection) -> tuple[str, list[str]]:
        commands.cancel_job(connection, current_project_id(), job_id)
        return job_id, []

    return accept_job(act)


@blueprint.post("/jobs/<id:job_id>/retry")
@blueprint.doc(responses=[409])
@blueprint.output(AcceptedJob, 202)
def retry_job(job_id: str) -> Response:
    """Try again what failed or was cancelled"""

    def act(connection: Connection) -> tuple[str, list[str]]:
        commands.retry_job(connection, current_project_id(), job_id)
        return job_id, []

    return accept_job(act)


def accept_job(act: Callable[[Connection], tuple[str, list[str]]], key: str | None = None) -> Response:
    """Do `act` and answer with the job.

    act: returns the job's id and the URLs that were repeated.
    """

    def reply(connection: Connection) -> Reply:
        job_id, repeated_urls = act(connection)
        job = queries.get_job(connection, current_project_id(), job_id)
        body = AcceptedJob(**dict(job), repeated_urls=repeated_urls).model_dump(mode="json")
        return Reply(202, paths.job(job_id), body)

    return replies.accept(reply, key, jobs)

"""Pages of jobs: the list with its form, and one job with its progress, outcomes and what can be done to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, redirect, render_template, request
from sqlalchemy import Connection
from werkzeug.wrappers import Response

from services.api import paths
from services.api.commands import clusterings as clustering_commands
from services.api.commands import deletion
from services.api.commands import jobs as commands
from services.api.commands import sources as source_commands
from services.api.context import current_project_id, service, transaction, write
from services.api.pages import forms
from services.api.problems import Conflict, NotFound, Refusal, parse
from services.api.queries import clusterings, clusters, jobs, sources
from services.api.queries.catalog import list_models
from services.api.queries.covers import list_covers
from services.api.schemas.answers import Cluster, Clustering, Job
from services.api.schemas.requests import (
    ClusteringRequest,
    JobRequest,
    JobsPaging,
    ModelsRequest,
    SourcesPaging,
    SourcesRequest,
)
from shared import catalog
from shared.tasks import OPEN_TASK_STATES, JobState, TaskState

blueprint = Blueprint("job_pages", __name__)

#: Most that one look at a page asks again for.
MAX_POLLED = 8
#: Clusterings of a job's page that show pictures, and how many.
PREVIEWED, PREVIEW_CLUSTERS = 3, 6
FAILURES_SHOWN, CLUSTERINGS_SHOWN = 20, 50

#: What a view returns: a place to go to, or a page with its status.
Answer = Response | tuple[str, int]

_OPEN_JOB = (JobState.QUEUED, JobState.RUNNING)


@blueprint.get("/")
def list_jobs() -> str:
    """Jobs, newest first, and the form of a new one."""
    return _jobs_page()


@blueprint.post("/jobs")
def submit_job() -> Answer:
    """Submit the form of a new job."""
    forms.expect_files()
    form, urls = request.form, forms.lines(request.form.get("videos", ""))
    shown = list(urls)
    project_id, settings = current_project_id(), service().settings
    try:
        files = forms.chosen_files("files")
        shown += [file.name for file in files]
        job = parse(
            JobRequest,
            {
                "videos": urls + [file.url for file in files],
                "expand": "expand" in form,
                "name": form.get("name", "").strip(),
                "models": form.getlist("models"),
                "clustering": forms.n_clusters(form.get("n_clusters", "")),
            },
        )
        with transaction() as connection:  # before anything is stored
            commands.check_job(connection, project_id, settings, job, [file.upload_id for file in files])
        job_id, _ = forms.with_uploads(
            files, lambda connection: commands.submit_job(connection, project_id, settings, job)
        )
    except Refusal as refusal:
        return _jobs_page(forms.named_by_url(refusal, shown)), refusal.status
    return redirect(paths.job_page(job_id), 303)


def _jobs_page(problem: Refusal | None = None) -> str:
    paging = parse(JobsPaging, request.args.to_dict())
    with transaction() as connection:
        page = jobs.list_jobs(connection, current_project_id(), **dict(paging))
        covers = list_covers(connection, current_project_id(), [job.id for job in page.items])
        models = list_models(connection, service().settings)
    given = forms.given(request.form, videos="", name="", n_clusters="", expand="")
    given["models"] = request.form.getlist("models") or forms.default_models(models)
    return render_template(
        "jobs.html",
        jobs=page,
        covers=covers,
        cursor=paging.cursor,
        models=models,
        given=given,
        problem=problem,
        poll=[job.links["self"] for job in page.items if job.state in _OPEN_JOB][:MAX_POLLED],
        refresh=request.full_path.rstrip("?") if request.method == "GET" else "/",
    )


@blueprint.get("/jobs/<id:job_id>")
def show_job(job_id: str) -> str:
    """One job: progress, what failed and why, clusterings, sources."""
    return _job_page(job_id)


@blueprint.post("/jobs/<id:job_id>/cancel")
def cancel_job(job_id: str) -> Answer:
    """Cancel what is open."""

    def act(connection: Connection) -> None:
        commands.cancel_job(connection, current_project_id(), job_id)

    return _do(job_id, lambda: write(act))


@blueprint.post("/jobs/<id:job_id>/retry")
def retry_job(job_id: str) -> Answer:
    """Try again what failed or was cancelled."""

    def act(connection: Connection) -> None:
        commands.retry_job(connection, current_project_id(), job_id)

    return _do(job_id, lambda: write(act))


@blueprint.post("/jobs/<id:job_id>/delete")
def delete_job(job_id: str) -> Answer:
    """Delete the job; the form that leads here has said what that means."""
    deletion.delete_job(service().database, service().blobs, current_project_id(), job_id)
    return redirect("/", 303)


@blueprint.post("/jobs/<id:job_id>/sources")
def add_sources(job_id: str) -> Answer:
    """Add URLs and files."""
    forms.expect_files()
    urls = forms.lines(request.form.get("videos", ""))
    shown = list(urls)
    project_id, settings = current_project_id(), service().settings

    def act() -> None:
        files = forms.chosen_files("files")
        shown.extend(file.name for file in files)
        videos = parse(SourcesRequest, {"videos": urls + [file.url for file in files]}).videos
        with transaction() as connection:  # before anything is stored
            coming = [file.upload_id for file in files]
            source_commands.check(connection, project_id, settings, job_id, videos, coming)
        forms.with_uploads(
            files,
            lambda connection: source_commands.add(
                connection, project_id, settings, job_id, videos, expand="expand" in request.form
            ),
        )

    return _do(job_id, act, form="sources", urls=shown)


@blueprint.post("/jobs/<id:job_id>/sources/<id:source_id>/correct")
def correct_source(job_id: str, source_id: str) -> Answer:
    """Put another URL in the place of a source."""
    try:
        source_commands.correct(
            service().database,
            service().blobs,
            current_project_id(),
            service().settings,
            job_id,
            source_id,
            request.form.get("url", ""),
            expand="expand" in request.form,
        )
    except NotFound:
        raise
    except Refusal as refusal:
        return _job_page(job_id, refusal), refusal.status
    return redirect(paths.job_page(job_id), 303)


@blueprint.post("/jobs/<id:job_id>/sources/<id:source_id>/remove")
def remove_source(job_id: str, source_id: str) -> Answer:
    """Take a source out of the job; the form that leads here has said what that means."""
    try:
        source_commands.remove(service().database, service().blobs, current_project_id(), job_id, source_id)
    except Conflict as refusal:
        return _job_page(job_id, refusal), refusal.status
    return redirect(paths.job_page(job_id), 303)


@blueprint.post("/jobs/<id:job_id>/sources/remove-failed")
def remove_failed_sources(job_id: str) -> Answer:
    """Take every source out of the job that failed."""
    try:
        source_commands.remove_failed(service().database, service().blobs, current_project_id(), job_id)
    except Conflict as refusal:
        return _job_page(job_id, refusal), refusal.status
    return redirect(paths.job_page(job_id), 303)


@blueprint.post("/jobs/<id:job_id>/models")
def add_models(job_id: str) -> Answer:
    """Add models."""

    def act(connection: Connection) -> None:
        asked = parse(ModelsRequest, {"models": request.form.getlist("models")})
        commands.add_models(connection, current_project_id(), service().settings, job_id, asked.models)

    return _do(job_id, lambda: write(act), form="models")


@blueprint.post("/jobs/<id:job_id>/clusterings")
def add_clustering(job_id: str) -> Answer:
    """Cluster again, and go where the result will be."""

    def act(connection: Connection) -> str:
        asked = parse(ClusteringRequest, forms.clustering_settings(request.form))
        return paths.clustering_page(clustering_commands.ask_for(connection, current_project_id(), job_id, asked))

    return _do(job_id, lambda: write(act), form="clusterings")


def _do(job_id: str, act: Callable[[], str | None], *, form: str = "", urls: Sequence[str] = ()) -> Answer:
    """Do `act` and go on; when it is refused, show the job's page with the reason and that form.

    act: returns where to go on, None for the job's page. urls: what the fields `videos.<i>` of a refusal are.
    """
    try:
        target = act()
    except NotFound:
        raise
    except Refusal as refusal:
        return _job_page(job_id, forms.named_by_url(refusal, urls), form), refusal.status
    return redirect(target or paths.job_page(job_id), 303)


def _job_page(job_id: str, problem: Refusal | None = None, form: str = "") -> str:
    project_id = current_project_id()
    paging = parse(SourcesPaging, request.args.to_dict())
    with transaction() as connection:
        job = jobs.get_job(connection, project_id, job_id)
        listed = sources.list_sources(connection, project_id, job_id, **dict(paging))
        failed = sources.list_sources(connection, project_id, job_id, limit=FAILURES_SHOWN, state=TaskState.FAILED)
        made = clusterings.list_clusterings(connection, project_id, job_id, limit=CLUSTERINGS_SHOWN)
        current = [each for each in made.items if not each.superseded or each.name]
        previews = _previews(connection, project_id, current)
        models = list_models(connection, service().settings)
    page = paths.job_page(job_id)
    still = [job.links["self"]] if job.state in _OPEN_JOB else []
    still += [clustering.links["self"] for clustering in made.items if clustering.state in OPEN_TASK_STATES]
    return render_template(
        "job.html",
        job=job,
        page=page,
        open=job.state in _OPEN_JOB,
        retryable=_has_something_to_retry(job),
        sources=listed,
        state=paging.state,
        cursor=paging.cursor,
        failed=failed,
        clusterings=current,
        older=[each for each in made.items if each not in current],
        more_clusterings=made.next_cursor,
        previews=previews,
        further_models=[model for model in models if model.name not in job.models],
        algorithms=catalog.algorithms(),
        scalings=catalog.SCALINGS,
        given=_given(),
        given_parameters=request.form,
        opened=form,
        problem=problem,
        poll=still[:MAX_POLLED],
        refresh=request.full_path.rstrip("?") if request.method == "GET" else page,
    )


def _given() -> dict[str, Any]:
    """What the forms of a job's page show."""
    usual = catalog.COMMON_CLUSTERING
    return {
        **forms.given(request.form, videos="", model="", expand="", **usual),
        "models": request.form.getlist("models"),
    }


def _has_something_to_retry(job: Job) -> bool:
    return any(stage.failed or stage.cancelled for stage in job.progress.values())


def _previews(connection: Connection, project_id: str, listed: Sequence[Clustering]) -> dict[str, list[Cluster]]:
    """The largest clusters of the newest clusterings that have some, by clustering."""
    done = [clustering.id for clustering in listed if clustering.state == TaskState.SUCCEEDED][:PREVIEWED]
    return {
        clustering_id: clusters.list_clusters(
            connection, project_id, clustering_id, limit=PREVIEW_CLUSTERS, order="size"
        ).items
        for clustering_id in done
    }

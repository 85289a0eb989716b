"""The pages of exports: asking for one, watching it, fetching its file; and those that there are."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, redirect, render_template, request
from sqlalchemy import Connection
from werkzeug.wrappers import Response

from services.api import paths, short_ids
from services.api.commands import exports as commands
from services.api.context import current_project_id, service, transaction
from services.api.problems import NotFound, parse
from services.api.queries import clusterings, clusters, jobs
from services.api.queries import exports as queries
from services.api.schemas.answers import Export
from services.api.schemas.fields import MAX_EXPORTED_RESULTS
from services.api.schemas.requests import ExportRequest, Paging
from shared import catalog
from shared.tasks import TaskState

blueprint = Blueprint("export_pages", __name__)

EXPORTS_A_PAGE = 50

_OF_A_SEARCH = ("key_frame_id", "query_id", "model", "limit")
_WORDS = {
    "job": "Every key frame of a job",
    "clustering": "A clustering",
    "cluster": "A cluster",
    "search": "The answer to a search",
}


@blueprint.post("/exports")
def add_export() -> Response:
    """Ask for an export and go where its file will be."""
    form = {name: value for name, value in request.form.items() if value}
    of_a_search: dict[str, Any] = {name: form.pop(name) for name in _OF_A_SEARCH if name in form}
    if job_ids := form.pop("jobs", None):
        of_a_search["jobs"] = job_ids.split(",")
    asked = short_ids.completed(parse(ExportRequest, {**form, **({"search": of_a_search} if of_a_search else {})}))
    with transaction() as connection:
        export_id = commands.ask_for(connection, current_project_id(), service().settings, asked)
    return redirect(paths.export_page(export_id), 303)


@blueprint.get("/exports")
def list_exports() -> str:
    """The exports there are, newest first."""
    cursor = parse(Paging, request.args.to_dict()).cursor
    with transaction() as connection:
        page = queries.list_exports(connection, current_project_id(), limit=EXPORTS_A_PAGE, cursor=cursor)
    return render_template("exports.html", exports=page, cursor=cursor)


@blueprint.get("/exports/<id:export_id>")
def show_export(export_id: str) -> str:
    """How far an export is, and its file."""
    with transaction() as connection:
        export = queries.get_export(connection, current_project_id(), export_id)
        back = _back(connection, export)
    is_open = export.state in (TaskState.QUEUED, TaskState.RUNNING)
    return render_template(
        "export.html",
        export=export,
        back=back,
        open=is_open,
        poll=[export.links["self"]] if is_open else [],
        refresh=paths.export_page(export_id),
    )


@blueprint.post("/exports/<id:export_id>/delete")
def delete_export(export_id: str) -> Response:
    """Delete an export and its file."""
    commands.delete(service().database, service().blobs, current_project_id(), export_id)
    return redirect("/exports", 303)


def _back(connection: Connection, export: Export) -> str | None:
    """The page of what is exported; None when it is not there any more."""
    project_id, subject = current_project_id(), export.subject
    try:
        match subject["kind"]:
            case "job":
                return jobs.get_job(connection, project_id, subject["job_id"]).links["page"]
            case "clustering":
                return clusterings.get_clustering(connection, project_id, subject["clustering_id"]).links["page"]
            case "cluster":
                return clusters.get_cluster(connection, project_id, subject["cluster_id"]).links["page"]
    except NotFound:
        return None
    key_frame_id = subject.get("key_frame_id")
    return paths.key_frame_page(key_frame_id) if key_frame_id else f"/searches/{subject['query_id']}"


def export_words(export: Export) -> str:
    """What is exported, in words."""
    return _WORDS[export.subject["kind"]]


def register(app: Flask) -> None:
    """Give every template of `app` what the form of exports shows."""
    # The one that is chosen unless somebody says otherwise stands first.
    formats = sorted(catalog.formats().values(), key=lambda each: (each.name != catalog.DEFAULT_FORMAT, each.name))
    app.context_processor(lambda: {"formats": formats, "most_exported_results": MAX_EXPORTED_RESULTS})
    app.add_template_filter(export_words)

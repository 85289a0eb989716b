"""The pages of a search by picture: the form, and its answer, which waits for the picture's vector."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlencode

from flask import Blueprint, redirect, render_template, request
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response

from services.api import paths
from services.api.blueprints.uploads import FORM_MARGIN_BYTES
from services.api.commands import catalog_checks, searches
from services.api.commands.uploads import received
from services.api.context import current_project_id, service, transaction
from services.api.problems import Refusal, invalid, parse
from services.api.queries import jobs, search
from services.api.schemas import KeyFrameAt, PictureSearchRequest, SearchPolling
from shared.tasks import TaskState

blueprint = Blueprint("search_pages", __name__)

#: Jobs to choose from; the API searches in any.
JOBS_SHOWN = 200
RESULTS_SHOWN = 60


@blueprint.get("/search")
def show_search() -> str:
    """The form."""
    return _form()


@blueprint.post("/search")
def search_by_picture() -> Response | tuple[str, int]:
    """Take the picture in and go where the answer will be."""
    request.max_content_length = searches.MAX_PICTURE_BYTES + FORM_MARGIN_BYTES
    try:
        asked = parse(PictureSearchRequest, {"jobs": request.form.get("job"), "model": request.form.get("model")})
        query_id = _add_query(request.files.get("picture"), asked)
    except Refusal as refusal:
        return _form(refusal), refusal.status
    among = f"?{urlencode({'jobs': ','.join(asked.jobs)})}" if asked.jobs else ""
    return redirect(f"/searches/{query_id}{among}", 303)


def _add_query(picture: FileStorage | None, asked: PictureSearchRequest) -> str:
    if picture is None or not picture.filename:
        invalid("picture", "choose a picture to search with")
    if asked.model is None:
        invalid("model", "choose a model")
    project_id = current_project_id()
    with transaction() as connection:
        search.check_jobs(connection, project_id, asked.jobs)
        catalog_checks.check_models(connection, service().settings, [("model", asked.model)])
    folder = service().settings.work_folder
    with received(picture.stream, max_bytes=searches.MAX_PICTURE_BYTES, folder=folder) as file:
        searches.check_picture(file.path)
        return searches.ask(service().database, service().blobs, project_id, asked.model, file.path)


@blueprint.get("/searches/<id:query_id>")
def show_results(query_id: str) -> str | tuple[str, int]:
    """The nearest key frames, or that the picture has no vector yet: then the page looks again by itself."""
    project_id = current_project_id()
    asked = parse(SearchPolling, request.args.to_dict())
    with transaction() as connection:
        picture = search.get_query(connection, project_id, query_id)
        search.check_jobs(connection, project_id, asked.jobs)
        results: Sequence[KeyFrameAt] | None = None
        if picture.ready:
            results = search.nearest_to_query(connection, project_id, picture, asked.jobs, RESULTS_SHOWN)
    if picture.state is TaskState.FAILED and picture.error:
        return _form(Refusal(picture.error.message), model=picture.model), 422
    return _form(
        template="search_results.html",
        query_id=query_id,
        model=picture.model,
        job=asked.jobs[0] if asked.jobs else "",
        results=results,
        poll=[] if picture.is_settled else [paths.search(query_id, asked.jobs, RESULTS_SHOWN)],
        refresh=request.full_path.rstrip("?"),
    )


def _form(problem: Refusal | None = None, template: str = "search.html", **more: object) -> str:
    project_id = current_project_id()
    with transaction() as connection:
        models = search.models_of_jobs(connection, project_id, None)
        listed = jobs.list_jobs(connection, project_id, limit=JOBS_SHOWN)
    given = {
        "model": more.get("model") or request.form.get("model"),
        "job": more.get("job") or request.form.get("job"),
    }
    return render_template(template, problem=problem, models=models, jobs=listed.items, given=given, **more)

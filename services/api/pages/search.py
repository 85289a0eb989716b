"""The pages of a search by picture: the form, and its answer, which waits for the picture's vector.

What was searched with is either a picture that was sent or a key frame; the form keeps it for the next search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, render_template, request
from sqlalchemy import Connection
from werkzeug.datastructures import FileStorage
from werkzeug.wrappers import Response

from services.api import paths
from services.api.commands import searches
from services.api.context import current_project_id, service, transaction
from services.api.cursors import Page
from services.api.problems import Refusal, invalid, parse
from services.api.queries import jobs, key_frames, search
from services.api.schemas.answers import KeyFrame, KeyFrameAt
from services.api.schemas.requests import SearchForm, SearchPage
from shared import wording
from shared.tasks import TaskState

blueprint = Blueprint("search_pages", __name__)

#: Jobs to choose from; the API searches in any.
JOBS_SHOWN = 200
RESULTS_SHOWN = 60


@dataclass(frozen=True)
class Example:
    """What was searched with. field, id: by which the form names it. page: where it is shown, for a key frame."""

    field: str
    id: str
    image: str
    words: str
    page: str | None = None


@blueprint.get("/search")
def show_search() -> str:
    """The form, and what is like the key frame that the address may name."""
    asked = parse(SearchPage, request.args.to_dict())
    if asked.key_frame is None:
        return _form(job=asked.job, model=asked.model)
    project_id = current_project_id()
    with transaction() as connection:
        frame = key_frames.get_key_frame(connection, project_id, asked.key_frame)
        search.check_jobs(connection, project_id, _among(asked.job))
        model = search.model_of_key_frame(connection, project_id, frame.id, asked.model, _among(asked.job))
        found = search.nearest_to_key_frame(
            connection, project_id, frame.id, model, _among(asked.job), RESULTS_SHOWN, asked.cursor
        )
    address = paths.alike_page(frame.id, asked.job, model)
    return _results(_example_of(frame), model, asked, found, address)


@blueprint.post("/search")
def search_by_picture() -> Response | tuple[str, int]:
    """Take the picture in, or the one that the form has kept, and go where the answer will be."""
    request.max_content_length = searches.MAX_FORM_BYTES
    given = {name: value for name in SearchForm.model_fields if (value := request.form.get(name))}
    try:
        asked = parse(SearchForm, given)
    except Refusal as refusal:
        return _form(refusal), refusal.status
    try:
        address = _address(request.files.get("picture"), asked)
    except Refusal as refusal:
        return _form(refusal, **dict(asked)), refusal.status
    return redirect(address, 303)


def _address(picture: FileStorage | None, asked: SearchForm) -> str:
    """Where the answer will be: for the picture if there is one, else for the example that the form has kept."""
    project_id = current_project_id()
    if picture is not None and picture.filename:
        if asked.model is None:
            invalid("model", "choose a model")
        query_id = searches.ask(service(), project_id, picture.stream, asked.model, _among(asked.job))
        return paths.search_page(query_id, asked.job)
    with transaction() as connection:
        search.check_jobs(connection, project_id, _among(asked.job))
        if asked.key_frame:
            search.model_of_key_frame(connection, project_id, asked.key_frame, asked.model)
            return paths.alike_page(asked.key_frame, asked.job, asked.model)
        if asked.query:
            query_id = searches.query_for_model(connection, service().settings, project_id, asked.query, asked.model)
            return paths.search_page(query_id, asked.job)
    invalid("picture", "choose a picture to search with")


@blueprint.get("/searches/<id:query_id>")
def show_results(query_id: str) -> str | tuple[str, int]:
    """The nearest key frames, or that the picture has no vector yet: then the page looks again by itself."""
    project_id = current_project_id()
    asked = parse(SearchPage, request.args.to_dict())
    with transaction() as connection:
        picture = search.get_query(connection, project_id, query_id)
        search.check_jobs(connection, project_id, _among(asked.job))
        found = None
        if picture.ready:
            found = search.nearest_to_query(
                connection, project_id, picture, _among(asked.job), RESULTS_SHOWN, asked.cursor
            )
    if picture.state is TaskState.FAILED and picture.error:
        return _form(Refusal(picture.error.message), job=asked.job, model=picture.model, query=query_id), 422
    address = paths.search_page(query_id, asked.job)
    poll = [] if picture.is_settled else [paths.search(query_id, _among(asked.job), RESULTS_SHOWN)]
    return _results(_example_of_query(query_id), picture.model, asked, found, address, poll)


def _results(
    example: Example,
    model: str,
    asked: SearchPage,
    found: Page[KeyFrameAt] | None,
    address: str,
    poll: list[str] | None = None,
) -> str:
    return _form(
        template="search_results.html",
        example=example,
        model=model,
        job=asked.job,
        results=found,
        cursor=asked.cursor,
        page=address,
        origin={"job": asked.job, "model": model},
        poll=poll or [],
        refresh=request.full_path.rstrip("?"),
    )


def _form(
    problem: Refusal | None = None,
    template: str = "search.html",
    *,
    example: Example | None = None,
    job: str | None = None,
    model: str | None = None,
    query: str | None = None,
    key_frame: str | None = None,
    **more: Any,
) -> str:
    """query, key_frame: the id of what the form keeps, where `example` does not say it."""
    project_id = current_project_id()
    with transaction() as connection:
        models = search.models_of_jobs(connection, project_id, None)
        listed = jobs.list_jobs(connection, project_id, limit=JOBS_SHOWN)
        if example is None:
            example = _kept(connection, project_id, query, key_frame)
    return render_template(
        template,
        problem=problem,
        example=example,
        models=models,
        jobs=listed.items,
        model=model,
        job=job,
        **more,
    )


def _kept(connection: Connection, project_id: str, query_id: str | None, key_frame_id: str | None) -> Example | None:
    """The example that a refused form names, if it is there."""
    try:
        if key_frame_id:
            return _example_of(key_frames.get_key_frame(connection, project_id, key_frame_id))
        if query_id:
            return _example_of_query(search.get_query(connection, project_id, query_id).id)
    except Refusal:
        return None
    return None


def _example_of(frame: KeyFrame) -> Example:
    name = wording.source_name(frame.sources[0].title, frame.sources[0].url) if frame.sources else "a video"
    words = f"Key frame at {wording.clock(frame.time_s)} of {name}"
    return Example("key_frame", frame.id, frame.small_image, words, paths.key_frame_page(frame.id))


def _example_of_query(query_id: str) -> Example:
    return Example("query", query_id, paths.search_picture(query_id), "The picture that was sent")


def _among(job_id: str | None) -> list[str] | None:
    return [job_id] if job_id else None

"""Search by example: a key frame, or a picture that is sent."""

from __future__ import annotations

from collections.abc import Sequence

from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, current_app, make_response, request
from werkzeug.exceptions import UnsupportedMediaType

from services.api import paths, replies, short_ids
from services.api.commands import searches
from services.api.context import current_project_id, service, transaction
from services.api.problems import Invalid, NotFound, Refusal, invalid, parse
from services.api.queries import key_frames as key_frame_queries
from services.api.queries import search as queries
from services.api.queries.search import QueryPicture
from services.api.schemas.answers import PendingSearch, SearchQuery, SearchResults
from services.api.schemas.requests import PictureSearchRequest, SearchPolling, SearchRequest
from shared.blobs import BlobMissing
from shared.errors import ErrorKind
from shared.gc import KEPT_S as PICTURES_KEPT_S
from shared.tasks import TaskState

blueprint = APIBlueprint("search", __name__, url_prefix=paths.API, tag="Search")


@blueprint.post("/search")
@blueprint.doc(responses={202: "The picture has no vector yet", 404: "No such key frame or search"})
@blueprint.output(SearchResults)
def search() -> SearchResults | Response:
    """Find the key frames that are nearest to a key frame or a picture

    As JSON: `key_frame_id`, or `query_id` of a picture that was sent before, also for another model than it was sent
    for. As a form: the picture itself.
    """
    if request.mimetype == "multipart/form-data":
        return _search_by_picture()
    if not request.is_json:
        raise UnsupportedMediaType("The body must be application/json, or multipart/form-data with a picture.")
    asked = short_ids.completed(parse(SearchRequest, request.get_json()))
    if (asked.key_frame_id is None) == (asked.query_id is None):
        invalid("key_frame_id", "give either key_frame_id or query_id")
    if asked.query_id is not None:
        return _search_again(asked.query_id, asked)
    assert asked.key_frame_id
    project_id = current_project_id()
    with transaction() as connection:
        queries.check_jobs(connection, project_id, asked.jobs)
        key_frame = key_frame_queries.get_key_frame(connection, project_id, asked.key_frame_id)
        model = queries.model_of_key_frame(connection, project_id, key_frame.id, asked.model, asked.jobs)
        page = queries.nearest_to_key_frame(
            connection, project_id, key_frame.id, model, asked.jobs, asked.limit, asked.cursor
        )
    return SearchResults(
        query=SearchQuery(key_frame_id=key_frame.id, query_id=None),
        model=model,
        results=page.items,
        next_cursor=page.next_cursor,
        links={"picture": key_frame.image},
    )


@blueprint.get("/searches/<id:query_id>")
@blueprint.doc(responses={202: "The picture has no vector yet"})
@blueprint.input(SearchPolling, location="query")
@blueprint.output(SearchResults)
def get_search(query_id: str, query_data: SearchPolling) -> SearchResults | Response:
    """Ask again for the answer to a search by picture"""
    asked = short_ids.completed(query_data)
    return _answer(query_id, asked.jobs, asked.limit, asked.cursor)


@blueprint.get("/searches/<id:query_id>/picture")
@blueprint.output(FileSchema, content_type="image/*")
def get_picture(query_id: str) -> Response:
    """Get the picture that was sent to search with, as it was sent; it is kept for a day"""
    with transaction() as connection:
        blob = queries.get_query(connection, current_project_id(), query_id).blob
    try:
        picture = service().blobs.read(blob)
    except BlobMissing:
        raise NotFound(f"The picture of search {query_id} is gone.", "query_id") from None
    response = current_app.response_class(picture, mimetype=searches.media_type(picture))
    response.cache_control.private = True
    response.cache_control.max_age = int(PICTURES_KEPT_S)
    return response


def _search_again(query_id: str, asked: SearchRequest) -> SearchResults | Response:
    """The answer for a picture that was sent before, perhaps for another model: then it is embedded anew."""
    with transaction() as connection:
        found = searches.query_for_model(connection, service().settings, current_project_id(), query_id, asked.model)
    if found != query_id:
        searches.wait_for_vector(
            service().database, current_project_id(), found, wait_s=service().settings.query_wait_s
        )
    return _answer(found, asked.jobs, asked.limit, asked.cursor)


def _search_by_picture() -> SearchResults | Response:
    request.max_content_length = searches.MAX_FORM_BYTES
    project_id = current_project_id()
    asked = short_ids.completed(parse(PictureSearchRequest, request.form.to_dict()))
    picture = request.files.get("picture")
    if picture is None:
        invalid("picture", "the form has no file of this name")
    query_id = searches.ask(service(), project_id, picture.stream, asked.model, asked.jobs)
    wait_s = service().settings.query_wait_s
    searches.wait_for_vector(service().database, project_id, query_id, wait_s=wait_s)
    return _answer(query_id, asked.jobs, asked.limit)


def _answer(
    query_id: str, job_ids: Sequence[str] | None, limit: int, cursor: str | None = None
) -> SearchResults | Response:
    """What is nearest to a picture that was sent, or 202 while it has no vector. Raises its failure."""
    project_id = current_project_id()
    with transaction() as connection:
        queries.check_jobs(connection, project_id, job_ids)
        picture = queries.get_query(connection, project_id, query_id)
        query = SearchQuery(key_frame_id=None, query_id=query_id)
        if picture.ready:
            page = queries.nearest_to_query(connection, project_id, picture, job_ids, limit, cursor)
            return SearchResults(
                query=query,
                model=picture.model,
                results=page.items,
                next_cursor=page.next_cursor,
                links={"picture": paths.search_picture(query_id)},
            )
    if picture.state is TaskState.FAILED:
        raise _failure(picture)
    address = paths.search(query_id, job_ids, limit)
    pending = PendingSearch(
        query=query, model=picture.model, links={"self": address, "picture": paths.search_picture(query_id)}
    )
    headers = {"Location": address, "Retry-After": str(replies.RETRY_AFTER_S)}
    return make_response(pending.model_dump(mode="json"), 202, headers)


def _failure(picture: QueryPicture) -> Refusal:
    assert picture.error
    if picture.error.kind == ErrorKind.BAD_PICTURE:
        return Invalid([("picture", picture.error.message)])
    return Refusal(picture.error.message)

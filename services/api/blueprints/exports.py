"""Exports: what a person found, as a file to take along."""

from __future__ import annotations

import hashlib

from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, current_app, request
from sqlalchemy import Connection
from werkzeug.exceptions import RequestedRangeNotSatisfiable
from werkzeug.wsgi import FileWrapper

from services.api import paths, replies, short_ids
from services.api.commands import exports as commands
from services.api.commands.idempotency import Reply
from services.api.context import current_project_id, service, transaction
from services.api.problems import NotFound
from services.api.queries import exports as queries
from services.api.schemas.answers import Export, ExportList, FormatEntries, FormatEntry
from services.api.schemas.requests import ExportRequest, IdempotencyHeaders, Paging
from shared import catalog
from shared.blobs import BlobMissing
from shared.tables import exports

blueprint = APIBlueprint("exports", __name__, url_prefix=paths.API, tag="Exports")

#: How long an address in the store works, for whoever has it.
LINK_EXPIRES_S = 3600
#: What is read and sent at a time.
BLOCK_BYTES = 64 * 1024


@blueprint.post("/exports")
@blueprint.doc(responses={404: "No such job, clustering, cluster, key frame or search"})
@blueprint.input(IdempotencyHeaders, location="headers")
@blueprint.input(ExportRequest)
@blueprint.output(Export, 202)
def add_export(json_data: ExportRequest, headers_data: IdempotencyHeaders) -> Response:
    """Export the key frames of a job, a clustering, a cluster or a search"""
    asked = short_ids.completed(json_data)

    def act(connection: Connection) -> Reply:
        export_id = commands.ask_for(connection, current_project_id(), service().settings, asked)
        export = queries.get_export(connection, current_project_id(), export_id)
        return Reply(202, paths.export(export_id), export.model_dump(mode="json"))

    return replies.accept(act, headers_data.idempotency_key, exports)


@blueprint.get("/exports")
@blueprint.input(Paging, location="query")
@blueprint.output(ExportList)
def list_exports(query_data: Paging) -> ExportList:
    """List exports, newest first"""
    with transaction() as connection:
        page = queries.list_exports(connection, current_project_id(), **dict(query_data))
    return ExportList(exports=page.items, next_cursor=page.next_cursor)


@blueprint.get("/exports/<id:export_id>")
@blueprint.output(Export)
def get_export(export_id: str) -> Export:
    """Show how far an export is"""
    with transaction() as connection:
        return queries.get_export(connection, current_project_id(), export_id)


@blueprint.get("/exports/<id:export_id>/file")
@blueprint.doc(
    responses={
        206: "The part that `Range` names",
        302: "The file is read from the object store, at the address in `Location`, which works for an hour",
        304: "The file is the one that you have",
        409: "The export is not written yet, or failed",
        416: "The file has no such part",
    }
)
@blueprint.output(FileSchema, content_type="application/octet-stream")
def get_file(export_id: str) -> Response:
    """Get the file of an export, also a part of it, so that what broke off goes on

    Where blobs are in an object store, the answer leads there. Follow it without your key: the address is signed.
    """
    with transaction() as connection:
        file = queries.get_file(connection, current_project_id(), export_id)
    if link := service().blobs.link(file.blob, LINK_EXPIRES_S, file_name=file.name):
        response = current_app.response_class(status=302, headers={"Location": link})
        del response.headers["Content-Type"]
        response.cache_control.no_store = True
        return response
    return _sent(file)


def _sent(file: queries.ExportFile) -> Response:
    """The file in blocks, or the part of it that is asked for."""
    try:
        with service().blobs.open_file(file.blob, service().settings.scratch_folder) as path:
            reader = path.open("rb")  # and stays open, also where the store removes the file now
            size_bytes = path.stat().st_size
    except (BlobMissing, FileNotFoundError):
        raise NotFound("The file of this export is gone; export again.", "export_id") from None
    response = current_app.response_class(
        FileWrapper(reader, BLOCK_BYTES), mimetype=file.media_type, direct_passthrough=True
    )
    response.content_length = size_bytes
    response.headers.set("Content-Disposition", "attachment", filename=file.name)
    # A blob's name is never used again, so it stands for the bytes.
    response.set_etag(hashlib.sha256(file.blob.encode()).hexdigest()[:32])
    try:
        response.make_conditional(request.environ, accept_ranges=True, complete_length=size_bytes)
    except RequestedRangeNotSatisfiable:
        reader.close()
        raise
    return response


@blueprint.delete("/exports/<id:export_id>")
@blueprint.output({}, 204)
def delete_export(export_id: str) -> Response:
    """Delete an export and its file"""
    commands.delete(service().database, service().blobs, current_project_id(), export_id)
    return current_app.response_class(status=204)


@blueprint.get("/formats")
@blueprint.output(FormatEntries)
def list_formats() -> FormatEntries:
    """List the formats of exports"""
    return FormatEntries(
        formats=[
            FormatEntry(name=each.name, title=each.title, media_type=each.media_type, suffix=each.suffix)
            for each in catalog.formats().values()
        ]
    )

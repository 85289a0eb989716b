"""Uploads: files that become sources."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import request

from services.api import paths
from services.api.commands import uploads as commands
from services.api.context import current_project_id, service, transaction
from services.api.form_files import FORM_MARGIN_BYTES
from services.api.problems import invalid
from services.api.schemas.answers import Upload
from services.api.schemas.requests import UploadName

blueprint = APIBlueprint("uploads", __name__, url_prefix=paths.API, tag="Uploads")


@blueprint.post("/uploads")
@blueprint.input(UploadName, location="query")
@blueprint.output(Upload, 201)
def upload_file(query_data: UploadName) -> Upload:
    """Upload a file

    The file is the body itself, named by `file_name`, or the field `file` of a form. Its answer's `url` goes into
    the `videos` of a job. A file that no job uses is removed after a day.
    """
    settings, blobs = service().settings, service().blobs
    request.max_content_length = settings.max_upload_bytes + FORM_MARGIN_BYTES
    stream, file_name, announced_bytes = request.stream, query_data.file_name, request.content_length
    if request.mimetype == "multipart/form-data":
        sent = request.files.get("file")
        if sent is None:
            invalid("file", "the form has no file of this name")
        stream, file_name, announced_bytes = sent.stream, file_name or sent.filename or "", None
    with commands.received(
        stream,
        max_bytes=settings.max_upload_bytes,
        folder=settings.scratch_folder,
        announced_bytes=announced_bytes,
    ) as file:
        commands.check_size(file.size_bytes, settings.max_upload_bytes)
        upload_id = commands.new_upload_id()
        with commands.stored(blobs, [commands.blob_of(upload_id)]):
            blob = commands.store_upload(blobs, upload_id, file)
            with transaction() as connection:
                return commands.add_upload(connection, current_project_id(), upload_id, file, blob, file_name)

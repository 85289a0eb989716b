"""Key frames and their pictures."""

from __future__ import annotations

import hashlib

from apiflask import APIBlueprint
from apiflask.schemas import FileSchema
from flask import Response, current_app, request

from services.api import paths
from services.api.context import current_project_id, service, transaction
from services.api.headers import YEAR_S
from services.api.problems import NotFound
from services.api.queries import key_frames as queries
from services.api.schemas import ImageSize, KeyFrame
from shared.blobs import BlobMissing

blueprint = APIBlueprint("key_frames", __name__, url_prefix=paths.API, tag="Key frames")


@blueprint.get("/key-frames/<id:key_frame_id>")
@blueprint.output(KeyFrame)
def get_key_frame(key_frame_id: str) -> KeyFrame:
    """Show one key frame: its video, its second, where it came from"""
    with transaction() as connection:
        return queries.get_key_frame(connection, current_project_id(), key_frame_id)


@blueprint.get("/key-frames/<id:key_frame_id>/image")
@blueprint.doc(responses=[304])
@blueprint.input(ImageSize, location="query")
@blueprint.output(FileSchema, content_type="image/jpeg")
def get_image(key_frame_id: str, query_data: ImageSize) -> Response:
    """Get a key frame's picture, which never changes"""
    with transaction() as connection:
        blob = queries.get_picture_blob(connection, current_project_id(), key_frame_id, query_data.size)
    try:
        response = current_app.response_class(service().blobs.read(blob), mimetype="image/jpeg")
    except BlobMissing:
        raise NotFound(f"The picture of key frame {key_frame_id} is gone.", "key_frame_id") from None
    # Not for caches that others share: whoever asks them next may be of another project.
    response.cache_control.private = True
    response.cache_control.max_age = YEAR_S
    response.cache_control.immutable = True
    # A blob's name is never used again, so it stands for the bytes.
    response.set_etag(hashlib.sha256(blob.encode()).hexdigest()[:32])
    response.make_conditional(request)
    return response

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
from services.api.queries import memberships
from services.api.schemas.answers import KeyFrame, MembershipList
from services.api.schemas.requests import ImageSize
from shared.blobs import BlobMissing

blueprint = APIBlueprint("key_frames", __name__, url_prefix=paths.API, tag="Key frames")

#: How long an address in the store works, for whoever has it: as long as what it was signed with, at most.
LINK_EXPIRES_S = 3600
#: How long a browser may go there without asking again. Credentials of a role are renewed 10 minutes before they end.
LINK_KEPT_S = 540


@blueprint.get("/key-frames/<id:key_frame_id>")
@blueprint.output(KeyFrame)
def get_key_frame(key_frame_id: str) -> KeyFrame:
    """Show one key frame: its video, its second, where it came from"""
    with transaction() as connection:
        return queries.get_key_frame(connection, current_project_id(), key_frame_id)


@blueprint.get("/key-frames/<id:key_frame_id>/clusters")
@blueprint.output(MembershipList)
def list_memberships(key_frame_id: str) -> MembershipList:
    """List the clusters that a key frame is in, of the newest clusterings first"""
    with transaction() as connection:
        queries.get_key_frame(connection, current_project_id(), key_frame_id)
        return MembershipList(clusters=memberships.list_memberships(connection, current_project_id(), key_frame_id))


@blueprint.get("/key-frames/<id:key_frame_id>/image")
@blueprint.doc(
    responses={
        302: "The picture is read from the object store, at the address in `Location`, which works for an hour",
        304: "The picture is the one that you have",
    }
)
@blueprint.input(ImageSize, location="query")
@blueprint.output(FileSchema, content_type="image/jpeg")
def get_image(key_frame_id: str, query_data: ImageSize) -> Response:
    """Get a key frame's picture, which never changes

    Where pictures are in an object store, the answer leads there. Follow it without your key: the address is signed.
    """
    with transaction() as connection:
        blob = queries.get_picture_blob(connection, current_project_id(), key_frame_id, query_data.size)
    if link := service().blobs.link(blob, LINK_EXPIRES_S):
        return _led_to(link)
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


def _led_to(link: str) -> Response:
    """The redirect to a picture. It has no ETag: a browser told that it still holds would go to an expired address."""
    response = current_app.response_class(status=302, headers={"Location": link})
    del response.headers["Content-Type"]
    response.cache_control.private = True
    response.cache_control.max_age = LINK_KEPT_S
    return response

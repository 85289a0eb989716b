"""Videos: the content behind sources, and what was chosen of it."""

from __future__ import annotations

from apiflask import APIBlueprint

from services.api import paths
from services.api.context import current_project_id, transaction
from services.api.queries import videos as queries
from services.api.schemas.answers import KeyFramesByTime, SeenVideo
from services.api.schemas.requests import OfJob, OfJobPaging

blueprint = APIBlueprint("videos", __name__, url_prefix=paths.API, tag="Key frames")


@blueprint.get("/videos/<id:video_id>")
@blueprint.input(OfJob, location="query")
@blueprint.output(SeenVideo)
def get_video(video_id: str, query_data: OfJob) -> SeenVideo:
    """Show one video: its facts, and where it came from"""
    with transaction() as connection:
        return queries.get_video(connection, current_project_id(), video_id, query_data.job)


@blueprint.get("/videos/<id:video_id>/key-frames")
@blueprint.input(OfJobPaging, location="query")
@blueprint.output(KeyFramesByTime)
def list_key_frames(video_id: str, query_data: OfJobPaging) -> KeyFramesByTime:
    """List the key frames of a video by time"""
    with transaction() as connection:
        page = queries.list_key_frames(
            connection,
            current_project_id(),
            video_id,
            query_data.job,
            limit=query_data.limit,
            cursor=query_data.cursor,
        )
    return KeyFramesByTime(key_frames=page.items, next_cursor=page.next_cursor)

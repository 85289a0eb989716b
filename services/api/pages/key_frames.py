"""Pages of key frames: those of a job, those of a video, and one with where it is from and what is like it."""

from __future__ import annotations

from itertools import groupby

from flask import Blueprint, render_template, request

from services.api import paths
from services.api.context import current_project_id, transaction
from services.api.cursors import Page
from services.api.problems import parse
from services.api.queries import jobs, key_frames, search, videos
from services.api.queries.memberships import embedded_by, list_memberships
from services.api.schemas.answers import KeyFrameAt
from services.api.schemas.requests import OfJobPaging, Origin, Paging

blueprint = Blueprint("key_frame_pages", __name__)

KEY_FRAMES_A_PAGE, ALIKE_SHOWN = 120, 24


@blueprint.get("/jobs/<id:job_id>/key-frames")
def show_key_frames(job_id: str) -> str:
    """The key frames of a job, video by video, each by time."""
    cursor = parse(Paging, request.args.to_dict()).cursor
    project_id = current_project_id()
    with transaction() as connection:
        job = jobs.get_job(connection, project_id, job_id)
        page = key_frames.list_of_job(connection, project_id, job_id, limit=KEY_FRAMES_A_PAGE, cursor=cursor)
    return render_template(
        "key_frames.html",
        job=job,
        by_video=[list(frames) for _, frames in groupby(page.items, key=lambda frame: frame.video_id)],
        shown=len(page.items),
        cursor=cursor,
        next_cursor=page.next_cursor,
    )


@blueprint.get("/videos/<id:video_id>")
def show_video(video_id: str) -> str:
    """A video with its key frames by time, as the job read it that the address names."""
    asked = parse(OfJobPaging, request.args.to_dict())
    project_id = current_project_id()
    with transaction() as connection:
        video = videos.get_video(connection, project_id, video_id, asked.job)
        job = jobs.get_job(connection, project_id, asked.job) if asked.job else None
        page = videos.list_key_frames(
            connection, project_id, video_id, asked.job, limit=KEY_FRAMES_A_PAGE, cursor=asked.cursor
        )
    return render_template("video.html", video=video, job=job, key_frames=page, cursor=asked.cursor)


@blueprint.get("/key-frames/<id:key_frame_id>")
def show_key_frame(key_frame_id: str) -> str:
    """A key frame, and the nearest ones by the model and in the job that the address names."""
    origin = parse(Origin, request.args.to_dict())
    among = [origin.job] if origin.job else None
    project_id = current_project_id()
    with transaction() as connection:
        frame = key_frames.get_key_frame(connection, project_id, key_frame_id)
        search.check_jobs(connection, project_id, among)
        job = jobs.get_job(connection, project_id, origin.job) if origin.job else None
        memberships = list_memberships(connection, project_id, key_frame_id)
        models = embedded_by(connection, key_frame_id)
        model, alike = None, Page[KeyFrameAt]([], None)
        if models:
            model = search.model_of_key_frame(connection, project_id, key_frame_id, origin.model, among)
            alike = search.nearest_to_key_frame(connection, project_id, key_frame_id, model, among, ALIKE_SHOWN)
    return render_template(
        "key_frame.html",
        frame=frame,
        job=job,
        memberships=memberships,
        models=models,
        model=model,
        results=alike.items,
        origin={"job": origin.job, "model": model},
        more=paths.alike_page(key_frame_id, origin.job, model) if alike.next_cursor else None,
    )
